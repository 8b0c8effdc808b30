"""The commands `python -m rnam report` and `python -m rnam predict`: from a file to a page, and to predictions.

    pip install 'rnam[report]'

    python -m rnam report visits.csv --id id --time date --target died --at visit --out report.html
    python -m rnam predict report.rnam new.csv --out predictions.csv

`rnam.command.options`    `main`, the arguments and the exit status
`rnam.command.reading`    a file as a table, and its cells as numbers, dates and levels
`rnam.command.kinds`      what each column is
`rnam.command.report`     from a table to a page
`rnam.command.predict`    from a table to predictions
"""
