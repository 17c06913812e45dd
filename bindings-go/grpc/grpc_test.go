package grpc

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	runtimev2grpc "berth.dev/go/grpc/wasmcloud/runtime/v2"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// both is a host and a scheduler in one, as far as gRPC has it.
type both struct {
	runtimev2grpc.UnimplementedWorkloadServiceServer
	runtimev2grpc.UnimplementedHostServiceServer

	heard chan string
}

func (b *both) WorkloadStatus(_ context.Context, asked *runtimev2.WorkloadStatusRequest) (*runtimev2.WorkloadStatusResponse, error) {
	return &runtimev2.WorkloadStatusResponse{WorkloadStatus: &runtimev2.WorkloadStatus{
		WorkloadId: asked.WorkloadId, WorkloadState: runtimev2.WorkloadState_WORKLOAD_STATE_NOT_FOUND,
	}}, nil
}

func (b *both) HostHeartbeat(_ context.Context, beat *runtimev2.HostHeartbeatRequest) (*emptypb.Empty, error) {
	b.heard <- beat.Heartbeat.Id
	return &emptypb.Empty{}, nil
}

// TestTheStubsSpeakTheMessagesOfTheModule sees that stubs and messages, which are in different modules, fit.
func TestTheStubsSpeakTheMessagesOfTheModule(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	peer := &both{heard: make(chan string, 1)}
	server := grpc.NewServer()
	runtimev2grpc.RegisterWorkloadServiceServer(server, peer)
	runtimev2grpc.RegisterHostServiceServer(server, peer)
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })

	answer, err := runtimev2grpc.NewWorkloadServiceClient(conn).WorkloadStatus(t.Context(), &runtimev2.WorkloadStatusRequest{WorkloadId: "a"})
	if err != nil || answer.GetWorkloadStatus().GetWorkloadId() != "a" {
		t.Errorf("%v, %v", answer, err)
	}
	beat := &runtimev2.HostHeartbeatRequest{Heartbeat: &runtimev2.HostHeartbeat{Id: "h1"}}
	if _, err := runtimev2grpc.NewHostServiceClient(conn).HostHeartbeat(t.Context(), beat); err != nil {
		t.Fatal(err)
	}
	if heard := <-peer.heard; heard != "h1" {
		t.Errorf("heard of %q", heard)
	}
}
