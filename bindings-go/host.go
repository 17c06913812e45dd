package berth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// Host is what the author of a host writes; everything between it and the bus is done by [Serve].
//
// Serve decides about ids, states and replies. The host is asked only for work that is due: it is never
// asked to start an id that it already has, and each instance that it returned is stopped exactly once.
// Methods are called concurrently for different workloads. A panic in one of them costs that workload and
// not the host.
type Host interface {
	// Describe gives everything of a heartbeat that Serve cannot know.
	//
	// It is called before each heartbeat and for each heartbeat request, and must return at once: sample
	// in the background. Hostname, FriendlyName, Version and Environment are those of the first call.
	Describe() Description

	// Start brings a workload up. Routes and subscriptions must be live when it returns without an error.
	//
	// It may take as long as it needs: the caller is answered with STARTING meanwhile. When the workload
	// is stopped before it is up, ctx ends; Start must then return soon, for the id is free only when it
	// has (5 s at most, HOST-STOP-005). What it returns all the same is stopped.
	//
	// The scheduler, and from there people, read the text of the error in state ERROR: name the component
	// and the image, and never a credential. Wrap it with [AfterGuestRan] when guest code has run.
	Start(ctx context.Context, start Start) (Instance, error)
}

// Instance is a workload that is up: whatever must be kept to serve it and to end it.
type Instance interface {
	// Stop ends the workload: guest execution (within 2 s, HOST-STOP-008), routes, subscriptions, memory,
	// directories. When it returns, the id is free.
	//
	// It is called once, on a stop command, at shutdown, and after the workload itself reported
	// [Reporter.Completed] or [Reporter.Failed]. The context ends when the time of a shutdown is over.
	Stop(ctx context.Context)
}

// StopFunc makes an [Instance] of a function.
type StopFunc func(ctx context.Context)

// Stop calls the function.
func (f StopFunc) Stop(ctx context.Context) { f(ctx) }

// Start is a workload to bring up.
type Start struct {
	// ID is the id under which the scheduler knows it, byte for byte as it was sent: any text of 1 to 256
	// bytes. Do not make file names of it.
	ID string
	// Workload is what to run. It may carry registry credentials: log it with [Redact], if at all.
	Workload *runtimev2.Workload
	// Reporter tells of this workload's later life. It may be kept.
	Reporter *Reporter
}

// String shows the id and, because of the credentials in it, not the workload.
func (s Start) String() string { return fmt.Sprintf("start of workload %q", s.ID) }

// LogValue is String.
func (s Start) LogValue() slog.Value { return slog.StringValue(s.String()) }

// AfterGuestRan marks the error of a [Host.Start] during which guest code has run: the id stays taken until
// it is stopped, so that the retry of a lost reply cannot run it twice. Without it, the id may be started
// again at once.
func AfterGuestRan(err error) error { return &guestRanError{err} }

type guestRanError struct{ err error }

func (e *guestRanError) Error() string { return e.err.Error() }
func (e *guestRanError) Unwrap() error { return e.err }

func guestRan(err error) bool {
	marked := (*guestRanError)(nil)
	return errors.As(err, &marked)
}

// Description is everything of a heartbeat that [Serve] cannot know; it adds id, start time and the number
// of workloads.
type Description struct {
	// Hostname is the name or address under which peers reach the host's ingress, without the port.
	Hostname string
	// FriendlyName is a DNS-1123 name, unique in the fleet; it becomes the name of a Kubernetes object.
	FriendlyName string
	// Version of the host program.
	Version string
	// Labels for placement; hostgroup is the one that deployed schedulers look at.
	Labels map[string]string
	// Environment that the host serves, empty when it serves none in particular.
	Environment string
	// HTTPPort is the bound port of the HTTP ingress; 0 means that there is none.
	HTTPPort uint16
	// OSArch is the processor architecture, for example x86_64.
	OSArch string
	// OSName is the operating system, for example linux.
	OSName string
	// OSKernel is the kernel's release.
	OSKernel string
	// SystemCPUUsage is the load of all processors together in percent, 0 to 100.
	SystemCPUUsage float32
	// SystemMemoryTotal is the memory of the machine in bytes.
	SystemMemoryTotal uint64
	// SystemMemoryFree is the free memory of the machine in bytes.
	SystemMemoryFree uint64
	// Imports are the interfaces that workloads may import from this host.
	Imports []*runtimev2.WitInterface
	// Exports are the interfaces that this host calls on workloads.
	Exports []*runtimev2.WitInterface
	// ComponentCount is the number of components of running workloads, services not counted.
	ComponentCount uint64
}
