"""The use cases: plan, pack, send, track, resend, publish, audit. They import only pure packages; adapters come as arguments."""
