package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	berth "berth.dev/go"
)

// build builds an example and returns the path of its binary.
func build(t *testing.T, example string) string {
	program := filepath.Join(t.TempDir(), example)
	output, err := exec.Command("go", "build", "-o", program, "berth.dev/go/examples/"+example).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

// process is a child process, which is killed at the end of the test.
type process struct {
	t       *testing.T
	command *exec.Cmd
	done    chan struct{}

	mu     sync.Mutex
	buffer bytes.Buffer
}

func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buffer.Write(text)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buffer.String()
}

func launch(t *testing.T, program string, args ...string) *process {
	p := &process{t: t, command: exec.Command(program, args...), done: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = p, p
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.command.Wait() // ignored here: process.wait reads the exit code
	}()
	t.Cleanup(func() {
		_ = p.command.Process.Kill() // fails if the process has ended
		<-p.done
		if t.Failed() {
			t.Logf("output of %s:\n%s", filepath.Base(program), p.output())
		}
	})
	return p
}

// signal sends a signal and waits for the end of the process.
func (p *process) signal(signal syscall.Signal) (code int) {
	p.t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	return p.wait()
}

func (p *process) wait() (code int) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(3 * testTimeout):
		p.t.Fatalf("the process does not end; its output:\n%s", p.output())
	}
	return p.command.ProcessState.ExitCode()
}

func TestStartOnceStartsWorkloadOnce(t *testing.T) {
	ca := newAuthority(t)
	certificate, key := ca.issue("127.0.0.1")
	b := newBroker(t, ca.mutualTLS(certificate, key))
	clientCertificate, clientKey := ca.issue("client")
	options := berth.ConnectOptions{
		Servers: []string{b.url()}, TLSCAFile: ca.file, TLSCertFile: clientCertificate, TLSKeyFile: clientKey,
	}
	conn, err := berth.Connect(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAndWait(conn) })
	host := newFakeHost("fake")
	serve(t, conn, host, berth.WithHostID("h1"))
	program := build(t, "start-once")
	startOnce := func(hostID string) *process {
		return launch(t, program, "--nats-url", b.url(), "--ca", ca.file, "--cert", clientCertificate, "--key", clientKey,
			hostID, "job-1", "r.example/job:1")
	}
	for range 2 {
		p := startOnce("h1")
		if code := p.wait(); code != 0 || !strings.Contains(p.output(), "job-1 is WORKLOAD_STATE_RUNNING") {
			t.Errorf("exit code %d, output: %s", code, p.output())
		}
	}
	if host.count(&host.started) != 1 {
		t.Errorf("started %v", host.ids())
	}
	p := startOnce("h2")
	if code := p.wait(); code == 0 || !strings.Contains(p.output(), "choose another host") {
		t.Errorf("exit code %d, output: %s", code, p.output())
	}
}

func TestMinimalSchedulerRunsWorkloadOnMinimalHost(t *testing.T) {
	b := newBroker(t)
	scheduler := launch(t, build(t, "minimal-scheduler"), b.url())
	host := launch(t, build(t, "minimal-host"), b.url())
	if code := scheduler.wait(); code != 0 {
		t.Errorf("exit code of the scheduler = %d", code)
	}
	for _, line := range []string{"joined as", "demo-1 is WORKLOAD_STATE_RUNNING", "demo-1 is gone"} {
		if !strings.Contains(scheduler.output(), line) {
			t.Errorf("the scheduler does not print %q:\n%s", line, scheduler.output())
		}
	}
	if code := host.signal(syscall.SIGTERM); code != 0 || !strings.Contains(host.output(), `stopped "demo-1"`) {
		t.Errorf("exit code of the host = %d, output:\n%s", code, host.output())
	}
}

// testbed is a broker, fake hosts and the program of the example scheduler.
type testbed struct {
	*testing.T
	broker  *broker
	dir     string
	program string
	hosts   map[string]*fakeHost
}

func newTestbed(t *testing.T) *testbed {
	return &testbed{t, newBroker(t), t.TempDir(), build(t, "spread-scheduler"), make(map[string]*fakeHost)}
}

func (b *testbed) launchScheduler() *process {
	return launch(b.T, b.program, "--nats-url", b.broker.url(), "--manifests", b.dir)
}

func (b *testbed) addHost(id string) (stop func() error) {
	b.hosts[id] = newFakeHost(id)
	return serve(b.T, b.broker.connect(), b.hosts[id], berth.WithHostID(id), berth.WithHeartbeatInterval(time.Second))
}

func (b *testbed) submit(name string, replicas int) {
	b.Helper()
	manifest := fmt.Sprintf(`{"apiVersion":"runtime.wasmcloud.dev/v1alpha1","kind":"WorkloadDeployment",
		"metadata":{"name":%q,"namespace":"default"},"spec":{"replicas":%d,"template":{"spec":{
		"hostSelector":{"hostgroup":"test"},"components":[{"name":"main","image":"registry.example/shop:1",
		"imagePullPolicy":"Always","localResources":{"environment":{"config":{"A":"1"}}}}]}}}}`, name, replicas)
	if err := os.WriteFile(filepath.Join(b.dir, name+".json"), []byte(manifest), 0o600); err != nil {
		b.Fatal(err)
	}
}

// counts returns how many starts and how many stops a host has received.
func (b *testbed) counts(id string) (started, stopped int) {
	host := b.hosts[id]
	return host.count(&host.started), host.count(&host.stopped)
}

// ready returns the number of ready replicas of an object and the message of its status. The number is -1 if
// the object has no status.
func (b *testbed) ready(name string) (ready int, message string) {
	content, err := os.ReadFile(filepath.Join(b.dir, ".berth/status/default/WorkloadDeployment", name+".json"))
	var object struct {
		Status struct {
			Conditions []struct{ Message string }
			Replicas   struct{ Ready int }
		}
	}
	if err != nil || json.Unmarshal(content, &object) != nil {
		return -1, ""
	}
	return object.Status.Replicas.Ready, object.Status.Conditions[0].Message
}

func TestSpreadSchedulerReplacesReplicasOfLostHost(t *testing.T) {
	b := newTestbed(t)
	b.submit("shop", 4)
	b.launchScheduler()
	eventually(t, "status without hosts", func() bool {
		_, message := b.ready("shop")
		return strings.Contains(message, "0 of 0 hosts fit")
	})
	b.addHost("h1")
	stop := b.addHost("h2")
	eventually(t, "four replicas", func() bool { ready, _ := b.ready("shop"); return ready == 4 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "four replicas on the remaining host", func() bool {
		started, stopped := b.counts("h1")
		return started-stopped == 4
	})
	b.submit("shop", 1)
	eventually(t, "one replica", func() bool { started, stopped := b.counts("h1"); return started-stopped == 1 })
	if err := os.Remove(filepath.Join(b.dir, "shop.json")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no replica", func() bool { started, stopped := b.counts("h1"); return started == stopped })
	eventually(t, "deletion of the status", func() bool { ready, _ := b.ready("shop"); return ready == -1 })
}

func TestSpreadSchedulerResumesAfterKill(t *testing.T) {
	b := newTestbed(t)
	b.addHost("h1")
	b.addHost("h2")
	b.submit("shop", 4)
	b.submit("deleted", 2)
	scheduler := b.launchScheduler()
	for name, replicas := range map[string]int{"shop": 4, "deleted": 2} {
		eventually(t, "replicas of "+name, func() bool { ready, _ := b.ready(name); return ready == replicas })
	}
	scheduler.signal(syscall.SIGKILL)
	if err := os.Remove(filepath.Join(b.dir, "deleted.json")); err != nil {
		t.Fatal(err)
	}
	scheduler = b.launchScheduler()
	eventually(t, "stop of the deleted replicas", func() bool {
		_, first := b.counts("h1")
		_, second := b.counts("h2")
		return first+second == 2
	})
	eventually(t, "the remaining replicas", func() bool { ready, _ := b.ready("shop"); return ready == 4 })
	// Six replicas were spread over two hosts, and none was started again after the kill.
	first, _ := b.counts("h1")
	second, _ := b.counts("h2")
	if first != 3 || second != 3 {
		t.Errorf("the hosts received %d and %d starts, want 3 and 3", first, second)
	}
	if code := scheduler.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code after SIGTERM = %d", code)
	}
	if first, second = b.hosts["h1"].count(&b.hosts["h1"].stopped), b.hosts["h2"].count(&b.hosts["h2"].stopped); first+second != 2 {
		t.Error("the scheduler stops workloads when it ends")
	}
}

func TestSpreadSchedulerShowsRefusals(t *testing.T) {
	b := newTestbed(t)
	b.addHost("h1")
	// The fake host fails the start of a workload with the name "missing".
	manifest := `{"kind":"Workload","metadata":{"name":"missing","namespace":"default"},"spec":{}}`
	if err := os.WriteFile(filepath.Join(b.dir, "missing.json"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := `{"kind":"Workload","metadata":{"name":"bad","namespace":"default"},"spec":{"service":{"maxRestarts":-1}}}`
	if err := os.WriteFile(filepath.Join(b.dir, "bad.json"), []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	b.launchScheduler()
	for name, message := range map[string]string{"missing": "no such image", "bad": "service.maxRestarts"} {
		eventually(t, message, func() bool {
			content, _ := os.ReadFile(filepath.Join(b.dir, ".berth/status/default/Workload", name+".json"))
			return strings.Contains(string(content), message) && !strings.Contains(string(content), `"True"`)
		})
	}
	eventually(t, "a second start under another id", func() bool { started, _ := b.counts("h1"); return started >= 2 })
	if ids := b.hosts["h1"].ids(); ids[0] == ids[1] {
		t.Error("the second start reuses the id of the first")
	}
}
