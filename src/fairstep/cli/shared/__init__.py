"""What several verbs share: the dispatcher, options, the screen. No verb may go in here."""
