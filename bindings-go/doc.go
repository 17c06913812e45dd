// Package berth is for people who write a scheduler or a host for wasmCloud v2: both sides of the host
// control protocol over NATS.
//
// A scheduler watches all hosts with [WatchFleet] and commands one of them with a [Client]. A host
// implements [Host] and calls [Serve]; subjects, replies, concurrency, heartbeats, reconnects, payload
// limits and the orderly end are then taken care of. Both reach the bus with [Connect] or
// [ConnectEventually].
//
// The messages, with every field explained, are in [berth.dev/go/wasmcloud/runtime/v2]. What hosts and
// schedulers owe each other is in the specification, docs/spec/ of the repository; identifiers such as
// HOST-START-003 in comments are its requirements.
//
// All functions may be called from several goroutines at once. What a call starts has ended when it
// returns, or, for a [Fleet], when its Close returns.
package berth
