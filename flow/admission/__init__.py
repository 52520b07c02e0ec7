"""Admissions: which programs are let in. One file each."""
