"""Bridges to other frameworks, one file each; nothing imports them but who crosses."""
