"""python -m inference report: why a run answered as it did, as one HTML file.

`build` reads a run and its questions, `measures` makes a `data.ReportData` of them, and `page` is a pure
function of that object.
"""
