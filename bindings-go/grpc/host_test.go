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

// patience is harness patience: far beyond what anything here takes.
const patience = 30 * time.Second

// scheduler hears heartbeats, and where their hosts take commands.
type scheduler struct {
	runtimev2grpc.UnimplementedHostServiceServer

	heard chan heard
}

type heard struct{ id, url string }

func (s *scheduler) HostHeartbeat(ctx context.Context, beat *runtimev2.HostHeartbeatRequest) (*emptypb.Empty, error) {
	incoming, _ := metadata.FromIncomingContext(ctx)
	s.heard <- heard{beat.GetHeartbeat().GetId(), strings.Join(incoming.Get("berth-host-url"), ",")}
	return &emptypb.Empty{}, nil
}

// listen serves a scheduler and returns it with its URL.
func listen(t *testing.T) (*scheduler, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scheduler{heard: make(chan heard, 16)}
	server := grpc.NewServer()
	runtimev2grpc.RegisterHostServiceServer(server, s)
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	return s, "http://" + listener.Addr().String()
}

// TestTheStubsReachTheReferenceHost commands berth-host by what protoc makes of the schema, and hears its heartbeat.
func TestTheStubsReachTheReferenceHost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, schedulerURL := listen(t)
	host := exec.Command(os.Getenv("BERTH_HOST"), "--no-nats", "--grpc-addr", "127.0.0.1:0", "--host-id", "h1",
		"--host-name", "127.0.0.1", "--grpc-scheduler-url", schedulerURL)
	host.Stderr = os.Stderr
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- host.Wait() }()
	t.Cleanup(func() { _ = host.Process.Kill() })

	var beat heard
	select {
	case beat = <-s.heard:
	case err := <-ended:
		t.Fatalf("the host ended: %v", err)
	case <-ctx.Done():
		t.Fatal("no heartbeat")
	}
	address, isURL := strings.CutPrefix(beat.url, "http://")
	if beat.id != "h1" || !isURL {
		t.Fatalf("the heartbeat of %+v", beat)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := runtimev2grpc.NewWorkloadServiceClient(conn)
	life(ctx, t, client)

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

// life starts a workload, starts it again, stops it and waits until it is gone.
func life(ctx context.Context, t *testing.T, client runtimev2grpc.WorkloadServiceClient) {
	t.Helper()
	start := &runtimev2.WorkloadStartRequest{WorkloadId: "a", Workload: &runtimev2.Workload{Name: "empty"}}
	started, err := client.WorkloadStart(ctx, start)
	if err != nil || started.GetWorkloadStatus().GetWorkloadState() != runtimev2.WorkloadState_WORKLOAD_STATE_RUNNING {
		t.Fatalf("%v, %v", started, err)
	}
	var header metadata.MD
	again, err := client.WorkloadStart(ctx, start, grpc.Header(&header))
	if err != nil || again.GetWorkloadStatus().GetWorkloadState() != runtimev2.WorkloadState_WORKLOAD_STATE_ERROR {
		t.Errorf("%v, %v", again, err)
	}
	if code := header.Get("nats-service-error-code"); len(code) != 1 || code[0] != "409" {
		t.Errorf("the refusal has the code %v", code)
	}
	if _, err := client.WorkloadStop(ctx, &runtimev2.WorkloadStopRequest{WorkloadId: "a"}); err != nil {
		t.Fatal(err)
	}
	for state := runtimev2.WorkloadState_WORKLOAD_STATE_STOPPING; state != runtimev2.WorkloadState_WORKLOAD_STATE_NOT_FOUND; {
		answer, err := client.WorkloadStatus(ctx, &runtimev2.WorkloadStatusRequest{WorkloadId: "a"})
		if err != nil {
			t.Fatal(err)
		}
		state = answer.GetWorkloadStatus().GetWorkloadState()
	}
}
