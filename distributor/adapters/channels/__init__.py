"""Ways to hand over passwords other than in the terminal or the portal: printed letters, messages to another mailbox."""
