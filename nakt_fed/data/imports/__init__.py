"""Public data sets, DICOM and NIfTI in the layout of their authors become folders in the project's form.

One file per kind; `kinds.py` is their table, `run.py` the import. From Python: `import_set`, `inspect_set`.
"""
