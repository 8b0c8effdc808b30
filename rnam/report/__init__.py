"""One page about a model: a single HTML file, without a network, of what an explanation says.

    pip install 'rnam[report]'

    model.explain(test, background=train).report("union.html")

The figures are SVG, drawn in the browser by 32 kB of the page's own: plotly.min.js takes 4.6 of the page's 8 MB, wants
styles that a strict policy refuses, and its points can't be read by keyboard or screen reader.

`rnam.report.writing`    `write`
`rnam.report.overview`   score, calibration, importance
`rnam.report.terms`      a panel for each term
`rnam.report.people`     the visits of each person
`rnam.report.page`       data as a page
"""

from rnam.report.writing import write

__all__ = ["write"]
