"""The web application where people get passwords and ask for another copy, and where administrators, helpdesk and auditors work."""
