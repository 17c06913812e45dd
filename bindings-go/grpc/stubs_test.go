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

// fakePeer is both a host and a scheduler.
type fakePeer struct {
	runtimev2grpc.UnimplementedWorkloadServiceServer
	runtimev2grpc.UnimplementedHostServiceServer

	heartbeats chan string
}

func (p *fakePeer) WorkloadStatus(_ context.Context, request *runtimev2.WorkloadStatusRequest) (*runtimev2.WorkloadStatusResponse, error) {
	return &runtimev2.WorkloadStatusResponse{WorkloadStatus: &runtimev2.WorkloadStatus{
		WorkloadId: request.WorkloadId, WorkloadState: runtimev2.WorkloadState_WORKLOAD_STATE_NOT_FOUND,
	}}, nil
}

func (p *fakePeer) HostHeartbeat(_ context.Context, request *runtimev2.HostHeartbeatRequest) (*emptypb.Empty, error) {
	p.heartbeats <- request.Heartbeat.Id
	return &emptypb.Empty{}, nil
}

// TestStubsUseMessagesOfRootModule checks that the stubs fit the messages, which are in another module.
func TestStubsUseMessagesOfRootModule(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	peer := &fakePeer{heartbeats: make(chan string, 1)}
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

	response, err := runtimev2grpc.NewWorkloadServiceClient(conn).WorkloadStatus(t.Context(), &runtimev2.WorkloadStatusRequest{WorkloadId: "a"})
	if err != nil || response.GetWorkloadStatus().GetWorkloadId() != "a" {
		t.Errorf("status = %v, %v, want id a", response, err)
	}
	request := &runtimev2.HostHeartbeatRequest{Heartbeat: &runtimev2.HostHeartbeat{Id: "h1"}}
	if _, err := runtimev2grpc.NewHostServiceClient(conn).HostHeartbeat(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if id := <-peer.heartbeats; id != "h1" {
		t.Errorf("heartbeat of %q, want h1", id)
	}
}
