"""The report is one HTML file that shows a run: the object in 3D, its pictures and curves, and every setting."""

from dfw.report.data import ReportData as ReportData
from dfw.report.write import write_report as write_report
