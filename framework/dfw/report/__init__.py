"""One HTML file that shows a run: the object in 3D, its making in pictures and curves, and everything that decided it."""

from dfw.report.data import ReportData as ReportData
from dfw.report.write import write_report as write_report
