"""Runs of machines that share no folder: copies at a URL, who may go on with which, and the way back. Imports no torch."""
