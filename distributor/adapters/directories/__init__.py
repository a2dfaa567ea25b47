"""Where certificates become public: a file a kind, each with `Settings` and `open`."""
