//go:build conformance

package grpc

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	runtimev2grpc "berth.dev/go/grpc/wasmcloud/runtime/v2"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// testTimeout is far longer than anything in this test takes.
const testTimeout = 30 * time.Second

// scheduler receives heartbeats and, in their metadata, the URLs of the hosts.
type scheduler struct {
	runtimev2grpc.UnimplementedHostServiceServer

	heartbeats chan heartbeat
}

type heartbeat struct{ hostID, hostURL string }

func (s *scheduler) HostHeartbeat(ctx context.Context, request *runtimev2.HostHeartbeatRequest) (*emptypb.Empty, error) {
	incoming, _ := metadata.FromIncomingContext(ctx)
	s.heartbeats <- heartbeat{request.GetHeartbeat().GetId(), strings.Join(incoming.Get("berth-host-url"), ",")}
	return &emptypb.Empty{}, nil
}

// serveScheduler serves a scheduler and returns it with its URL.
func serveScheduler(t *testing.T) (*scheduler, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scheduler{heartbeats: make(chan heartbeat, 16)}
	server := grpc.NewServer()
	runtimev2grpc.RegisterHostServiceServer(server, s)
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	return s, "http://" + listener.Addr().String()
}

// TestStubsWorkWithReferenceHost receives a heartbeat of berth-host and sends commands to it.
func TestStubsWorkWithReferenceHost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	s, schedulerURL := serveScheduler(t)
	host := exec.Command(os.Getenv("BERTH_HOST"), "--no-nats", "--grpc-addr", "127.0.0.1:0", "--host-id", "h1",
		"--host-name", "127.0.0.1", "--grpc-scheduler-url", schedulerURL)
	host.Stderr = os.Stderr
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- host.Wait() }()
	t.Cleanup(func() { _ = host.Process.Kill() })

	var received heartbeat
	select {
	case received = <-s.heartbeats:
	case err := <-ended:
		t.Fatalf("the host ended: %v", err)
	case <-ctx.Done():
		t.Fatal("no heartbeat")
	}
	address, isURL := strings.CutPrefix(received.hostURL, "http://")
	if received.hostID != "h1" || !isURL {
		t.Fatalf("heartbeat = %+v", received)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := runtimev2grpc.NewWorkloadServiceClient(conn)
	runWorkload(ctx, t, client)

	if err := host.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the host ended with %v", err)
		}
	case <-ctx.Done():
		t.Error("the host did not end")
	}
}

// runWorkload starts a workload, starts it again, stops it and waits until it is gone.
func runWorkload(ctx context.Context, t *testing.T, client runtimev2grpc.WorkloadServiceClient) {
	t.Helper()
	start := &runtimev2.WorkloadStartRequest{WorkloadId: "a", Workload: &runtimev2.Workload{Name: "empty"}}
	started, err := client.WorkloadStart(ctx, start)
	if err != nil || started.GetWorkloadStatus().GetWorkloadState() != runtimev2.WorkloadState_WORKLOAD_STATE_RUNNING {
		t.Fatalf("start = %v, %v, want RUNNING", started, err)
	}
	var header metadata.MD
	refused, err := client.WorkloadStart(ctx, start, grpc.Header(&header))
	if err != nil || refused.GetWorkloadStatus().GetWorkloadState() != runtimev2.WorkloadState_WORKLOAD_STATE_ERROR {
		t.Errorf("second start = %v, %v, want ERROR", refused, err)
	}
	if code := header.Get("nats-service-error-code"); len(code) != 1 || code[0] != "409" {
		t.Errorf("code of the refusal = %v, want 409", code)
	}
	if _, err := client.WorkloadStop(ctx, &runtimev2.WorkloadStopRequest{WorkloadId: "a"}); err != nil {
		t.Fatal(err)
	}
	for state := runtimev2.WorkloadState_WORKLOAD_STATE_STOPPING; state != runtimev2.WorkloadState_WORKLOAD_STATE_NOT_FOUND; {
		response, err := client.WorkloadStatus(ctx, &runtimev2.WorkloadStatusRequest{WorkloadId: "a"})
		if err != nil {
			t.Fatal(err)
		}
		state = response.GetWorkloadStatus().GetWorkloadState()
	}
}
