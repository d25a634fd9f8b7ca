"""Listing pictures: layouts of folders, masks, groups of common source, copies, lists of files."""
