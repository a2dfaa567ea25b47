"""Sending queued messages: one sender for each mailbox, within its rate limit and daily quota, every step durable in the ledger.

Sending one message, step by step (`mailbox.MailboxSender._connection_loop` drives it; its comments bear these numbers):

(0) claim             a lease on the message, in batches fetched ahead                         claims.ClaimQueue.next
(1) quota             one of the mailbox's messages of 24 hours                                limits.DailyQuota.acquire
(2) rate limit        wait for the next free moment                                            limits.RateLimiter.reserve
(3) connect, prepare  SMTP: MAIL, RCPT, DATA; Graph: make the draft                            model.ports.Connection.deliver
(4) record intent     durable event `transmitting`: from here on the message may have left     commits.GroupCommitter.record_intent
(5) transmit          SMTP: the message and the end of data; Graph: send the draft             model.ports.Connection.deliver
(6) classify          what the answer, or its absence, means: an Outcome                       classify_reply, classify_response (adapters)
(7) settle            accepted, deferred, rejected, ambiguous or queued again, durable         claims.Settler.record_outcome
(8) back off          after a failure, longer each time; stop where no message gets through    limits.Backoff, report.CircuitBreaker

What fails before (4) was certainly not sent and may be tried again. What is unclear after it is ambiguous, and never sent again without
evidence.
"""
