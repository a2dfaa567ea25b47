"""E-mail messages: MIME building and template rendering. Pure."""
