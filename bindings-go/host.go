package berth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// Host is the interface that the author of a host implements. [Serve] connects it to the bus.
//
// Serve decides about ids, states and replies. It never asks the host to start an id that the host already
// has, and it stops each returned instance exactly once. Methods are called concurrently for different
// workloads. A panic in a method fails that workload, not the host.
type Host interface {
	// Describe returns the fields of a heartbeat that Serve cannot know.
	//
	// Serve calls it before each heartbeat and for each heartbeat request. It must return at once: collect
	// samples in the background. Serve uses Hostname, FriendlyName, Version and Environment of the first call
	// only.
	Describe() Description

	// Start starts a workload. When it returns without an error, routes and subscriptions must be live.
	//
	// It may take as long as it needs; meanwhile the scheduler receives STARTING. When the workload is
	// stopped before Start returns, ctx ends. Start must then return soon, 5 s at most (HOST-STOP-005),
	// because the id is in use until then; an instance that it returns nevertheless is stopped.
	//
	// The scheduler, and through it the user, receives the message of a [*StartError] in state ERROR: name the
	// component and the image, and never a credential. Of any other error, it receives only that the start failed,
	// because the text may contain a secret; Serve logs the text. Wrap the error with [NonRetryable] when guest
	// code has run.
	Start(ctx context.Context, request StartRequest) (Instance, error)
}

// Instance is a started workload: the state that is needed to serve and to stop it.
type Instance interface {
	// Stop ends the workload: guest execution (within 2 s, HOST-STOP-008), routes, subscriptions, memory,
	// directories. When it returns, the id is free.
	//
	// Serve calls it once: on a stop command, at shutdown, or after [StatusReporter.Completed] or
	// [StatusReporter.Failed]. At shutdown, ctx ends when the grace period is over; until
	// then, it does not end.
	Stop(ctx context.Context)
}

// StopFunc is a function that implements [Instance].
type StopFunc func(ctx context.Context)

// Stop calls the function, unless it is nil.
func (f StopFunc) Stop(ctx context.Context) {
	if f != nil {
		f(ctx)
	}
}

// StartRequest describes a workload that a host should start.
type StartRequest struct {
	// ID is the workload id, exactly as the scheduler sent it: any text of 1 to 256 bytes. Do not use it as
	// a file name.
	ID string
	// Workload is the workload to start. It may contain registry credentials: log it only with [Redact].
	Workload *runtimev2.Workload
	// Reporter reports later state changes of this workload. It may be used after Start has returned.
	Reporter *StatusReporter
}

// String returns the id without the workload, which may hold credentials.
func (r StartRequest) String() string { return fmt.Sprintf("start of workload %q", r.ID) }

// LogValue returns [StartRequest.String].
func (r StartRequest) LogValue() slog.Value { return slog.StringValue(r.String()) }

// StartError is an error of [Host.Start] whose message the scheduler receives. It may be wrapped: its message is then
// sent without the text of the wrapping error.
type StartError struct {
	// Message explains the failure to users.
	Message string
	// Err is the cause, or nil. Its text is not sent.
	Err error
}

// StartErrorf formats a [*StartError] as [fmt.Errorf] does. The formatted text, including that of the errors in it, is
// the message: format no error that may contain a secret.
func StartErrorf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &StartError{err.Error(), err}
}

func (e *StartError) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

// NonRetryable wraps an error that [Host.Start] returns after guest code has run. The id then stays in use until
// it is stopped, so that a retry after a lost reply cannot run the guest twice. Without NonRetryable, the id
// may be started again at once. NonRetryable returns nil if the error is nil.
func NonRetryable(err error) error {
	if err == nil {
		return nil
	}
	return &nonRetryableError{err}
}

type nonRetryableError struct{ err error }

func (e *nonRetryableError) Error() string { return e.err.Error() }
func (e *nonRetryableError) Unwrap() error { return e.err }

func isNonRetryable(err error) bool {
	marked := (*nonRetryableError)(nil)
	return errors.As(err, &marked)
}

// Description holds the fields of a heartbeat that [Serve] cannot know. Serve adds the id, the start time
// and the number of workloads.
type Description struct {
	// Hostname is the name or address, without the port, at which clients reach the host's ingress.
	Hostname string
	// FriendlyName is a DNS-1123 name that is unique in the fleet. It becomes the name of a Kubernetes
	// object.
	FriendlyName string
	// Version is the version of the host program.
	Version string
	// Labels are labels for placement; the wasmCloud operator uses hostgroup.
	Labels map[string]string
	// Environment is the environment that the host belongs to; empty if it belongs to none.
	Environment string
	// HTTPPort is the bound port of the HTTP ingress; 0 means that the host has none.
	HTTPPort uint16
	// OSArch is the processor architecture, for example x86_64.
	OSArch string
	// OSName is the operating system, for example linux.
	OSName string
	// OSKernel is the release of the kernel.
	OSKernel string
	// SystemCPUUsage is the load of all processors together, in percent, 0 to 100.
	SystemCPUUsage float32
	// SystemMemoryTotal is the memory of the machine in bytes.
	SystemMemoryTotal uint64
	// SystemMemoryFree is the free memory of the machine in bytes.
	SystemMemoryFree uint64
	// Imports are the interfaces that workloads may import from this host.
	Imports []*runtimev2.WitInterface
	// Exports are the interfaces that this host calls on workloads.
	Exports []*runtimev2.WitInterface
	// ComponentCount is the number of components of running workloads, not counting services.
	ComponentCount uint64
}
