"""A report's plots: each file is one, called like the plot, with a function `draw` from `PlotData` to a Figure.

`style.save` writes each as SVG and PNG.
"""
