package berth

import (
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// State is the state of a workload.
type State = runtimev2.WorkloadState

// The states of a workload, under shorter names.
const (
	// StateUnspecified is the zero value; no host sends it.
	StateUnspecified = runtimev2.WorkloadState_WORKLOAD_STATE_UNSPECIFIED
	// StateStarting: the id is in use; the host pulls images, or a failed service waits to be restarted. The
	// state is not a failure.
	StateStarting = runtimev2.WorkloadState_WORKLOAD_STATE_STARTING
	// StateRunning: the workload runs, and its routes are live.
	StateRunning = runtimev2.WorkloadState_WORKLOAD_STATE_RUNNING
	// StateCompleted: the service ended successfully; nothing of the workload runs or is reachable.
	StateCompleted = runtimev2.WorkloadState_WORKLOAD_STATE_COMPLETED
	// StateStopping: the stop is acknowledged, but the workload may still run.
	StateStopping = runtimev2.WorkloadState_WORKLOAD_STATE_STOPPING
	// StateError: the start failed, or the service failed permanently; the message has the reason.
	StateError = runtimev2.WorkloadState_WORKLOAD_STATE_ERROR
	// StateNotFound: this host process has no workload with the id.
	StateNotFound = runtimev2.WorkloadState_WORKLOAD_STATE_NOT_FOUND
)

// Status is the status of one workload on a host.
type Status struct {
	// WorkloadID is the id in the request.
	WorkloadID string
	// State is never [StateUnspecified].
	State State
	// Message is text for users; it may be empty.
	Message string
}
