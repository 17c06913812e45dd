package berth

import (
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// State is where a workload is in its life.
type State = runtimev2.WorkloadState

// The states of a workload, under shorter names.
const (
	// StateUnspecified is no state; no host says it.
	StateUnspecified = runtimev2.WorkloadState_WORKLOAD_STATE_UNSPECIFIED
	// StateStarting: the id is taken; images are fetched, or a service waits for its next run. No failure.
	StateStarting = runtimev2.WorkloadState_WORKLOAD_STATE_STARTING
	// StateRunning: it runs, and what it serves can be reached.
	StateRunning = runtimev2.WorkloadState_WORKLOAD_STATE_RUNNING
	// StateCompleted: its service ended well; nothing of it runs or can be reached.
	StateCompleted = runtimev2.WorkloadState_WORKLOAD_STATE_COMPLETED
	// StateStopping: the stop was taken, the end is not proved.
	StateStopping = runtimev2.WorkloadState_WORKLOAD_STATE_STOPPING
	// StateError: it could not be started, or its service failed for good; the message says why.
	StateError = runtimev2.WorkloadState_WORKLOAD_STATE_ERROR
	// StateNotFound: this process of the host has nothing under this id.
	StateNotFound = runtimev2.WorkloadState_WORKLOAD_STATE_NOT_FOUND
)

// Status is what a host says of one workload.
type Status struct {
	// WorkloadID is the id that was asked for.
	WorkloadID string
	// State is never [StateUnspecified].
	State State
	// Message is for people; it may be empty.
	Message string
}
