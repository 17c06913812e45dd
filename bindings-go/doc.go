// Package berth implements both sides of the host control protocol of wasmCloud v2 over NATS, for authors
// of schedulers and hosts.
//
// A scheduler watches all hosts with [WatchFleet] and commands a host with a [Client]. A host implements
// [Host] and calls [Serve], which handles subjects, replies, concurrency, heartbeats, reconnects, payload
// limits and graceful shutdown. Both connect with [Connect] or [ConnectWithRetry].
//
// The messages, with documentation of every field, are in [berth.dev/go/wasmcloud/runtime/v2]. The
// specification is in docs/spec/ of the repository; identifiers such as HOST-START-003 in comments name its
// requirements.
//
// All functions are safe for concurrent use. A call leaves no goroutine behind when it returns; a [Fleet]
// leaves none when its Close returns. An exception is a method of a [Host] or an [Instance] that does not return within
// the grace period of [Serve].
package berth
