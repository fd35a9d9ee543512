"""Sinks out: events go to webhooks, to Redis and to brokers, at least once and in order.

Each sink follows the events by itself (`worker.integrations.event_follower`), under the name
`sinks.<name>`, so that none of them waits for another: with a lease, a position, slots, a rate and
connections of its own. One process leads a sink at a time; the others stand by.

An event that is to go out is sent at once. If that fails it is **put off**: its text is written to
`{ns}:sink-waiting:<name>` in Redis, and the follower's position goes on. From then on its command's
later events queue up behind it, in Redis too, so that the order holds; those of other commands go
out as ever. A put-off event is tried again with growing pauses, for three days.

An endpoint that fails several times in a row counts as **down**. Nothing more is put off then: the
position stands still, the stream of events is the queue, and workers keep it for followers that
live. One event at a time is tried, at most a minute apart, and the first success sends everything
again. So a dead endpoint costs Redis no second copy of the stream, and one request a minute.

An event whose tries end goes to `{ns}:sink-unsent:<name>`, from where `recover` fetches it. If not
one event got through in all that time, the events are not to blame: the sink is **paused**, with
all that waits, until somebody resumes it. `410 Gone` pauses it too, and so may a person.

What can be written twice is: a leader that dies between a delivery and its record leaves the
delivery to the next one. Each message has the event's id as its own, to tell it by. A leader that
was replaced writes nothing: its scripts name the fencing token of the follower's lead.

    routes            which events a sink wants
    destinations      what a destination is: webhook, redis_target, broker
    addresses         which addresses a webhook may lie at
    deferred          what is put off, and the state of a sink, in Redis
    backlog           what is put off, as its leader knows it: order, times, bounds
    delivery_policy   when what failed is tried again
    endpoint_health   whether an endpoint is down, and when it is probed
    sender            sends, puts off, tries again, pauses
    service           runs the senders of a file
    processes         runs each service in a process of its own
    operations        list, pause, resume, recover, test
"""
