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

	"github.com/nats-io/nats.go"

	berth "berth.dev/go"
)

// build builds an example and gives the path of the program.
func build(t *testing.T, example string) string {
	program := filepath.Join(t.TempDir(), example)
	output, err := exec.Command("go", "build", "-o", program, "berth.dev/go/examples/"+example).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

// child is a program that runs until it is ended, at the latest with the test.
type child struct {
	t       *testing.T
	command *exec.Cmd
	done    chan struct{}

	mu     sync.Mutex
	output bytes.Buffer
}

func (c *child) Write(text []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.output.Write(text)
}

func (c *child) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.output.String()
}

func launch(t *testing.T, program string, args ...string) *child {
	c := &child{t: t, command: exec.Command(program, args...), done: make(chan struct{})}
	c.command.Stdout, c.command.Stderr = c, c
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.done)
		_ = c.command.Wait() // the exit code is looked at by end
	}()
	t.Cleanup(func() {
		_ = c.command.Process.Kill() // it may have ended
		<-c.done
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(program), c.said())
		}
	})
	return c
}

// end sends a signal and waits for the end.
func (c *child) end(signal syscall.Signal) (code int) {
	c.t.Helper()
	if err := c.command.Process.Signal(signal); err != nil {
		c.t.Fatal(err)
	}
	return c.ended()
}

func (c *child) ended() (code int) {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(3 * patience):
		c.t.Fatalf("it does not end; it said:\n%s", c.said())
	}
	return c.command.ProcessState.ExitCode()
}

func TestAWorkloadIsStartedOnceWhateverIsAsked(t *testing.T) {
	ca := newAuthority(t)
	certificate, key := ca.issue("127.0.0.1")
	b := newBroker(t, ca.tls(certificate, key, true))
	ours, ourKey := ca.issue("client")
	options := berth.ConnectOptions{Servers: []string{b.url()}, TLSCAFile: ca.file, TLSCertFile: ours, TLSKeyFile: ourKey}
	conn, err := berth.Connect(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(conn) })
	host := newToy("toy")
	serve(t, conn, host, berth.WithHostID("h1"))
	program := build(t, "start-once")
	for range 2 {
		c := launch(t, program, "--nats-url", b.url(), "--ca", ca.file, "--cert", ours, "--key", ourKey, "h1", "job-1", "r.example/job:1")
		if code := c.ended(); code != 0 || !strings.Contains(c.said(), "job-1 is WORKLOAD_STATE_RUNNING") {
			t.Errorf("ends with %d and says %s", code, c.said())
		}
	}
	if host.count(&host.started) != 1 {
		t.Errorf("started %v", host.ids())
	}
	c := launch(t, program, "--nats-url", b.url(), "--ca", ca.file, "--cert", ours, "--key", ourKey, "nobody", "job-1", "r.example/job:1")
	if code := c.ended(); code == 0 || !strings.Contains(c.said(), "choose another host") {
		t.Errorf("ends with %d and says %s", code, c.said())
	}
}

func TestTheMinimalSchedulerRunsAWorkloadOnTheMinimalHost(t *testing.T) {
	b := newBroker(t)
	scheduler := launch(t, build(t, "minimal-scheduler"), b.url())
	host := launch(t, build(t, "minimal-host"), b.url())
	if code := scheduler.ended(); code != 0 {
		t.Errorf("the scheduler ends with %d", code)
	}
	for _, line := range []string{"joined as", "demo-1 is WORKLOAD_STATE_RUNNING", "demo-1 is gone"} {
		if !strings.Contains(scheduler.said(), line) {
			t.Errorf("the scheduler does not say %q:\n%s", line, scheduler.said())
		}
	}
	if code := host.end(syscall.SIGTERM); code != 0 || !strings.Contains(host.said(), `stopped "demo-1"`) {
		t.Errorf("the host ends with %d and says:\n%s", code, host.said())
	}
}

// cluster is the example scheduler and hosts for it.
type cluster struct {
	*testing.T
	broker  *broker
	dir     string
	program string
	hosts   map[string]*toy
}

func newCluster(t *testing.T) *cluster {
	return &cluster{t, newBroker(t), t.TempDir(), build(t, "spread-scheduler"), make(map[string]*toy)}
}

func (c *cluster) scheduler() *child {
	return launch(c.T, c.program, "--nats-url", c.broker.url(), "--manifests", c.dir)
}

func (c *cluster) host(id string) (conn *nats.Conn, stop func() error) {
	c.hosts[id] = newToy(id)
	conn = c.broker.connect()
	return conn, serve(c.T, conn, c.hosts[id], berth.WithHostID(id), berth.WithHeartbeatInterval(time.Second))
}

func (c *cluster) submit(name string, replicas int) {
	c.Helper()
	manifest := fmt.Sprintf(`{"apiVersion":"runtime.wasmcloud.dev/v1alpha1","kind":"WorkloadDeployment",
		"metadata":{"name":%q,"namespace":"default"},"spec":{"replicas":%d,"template":{"spec":{
		"hostSelector":{"hostgroup":"test"},"components":[{"name":"main","image":"registry.example/shop:1",
		"imagePullPolicy":"Always","localResources":{"environment":{"config":{"A":"1"}}}}]}}}}`, name, replicas)
	if err := os.WriteFile(filepath.Join(c.dir, name+".json"), []byte(manifest), 0o600); err != nil {
		c.Fatal(err)
	}
}

// on tells how many starts a host has got and how many of them were stopped.
func (c *cluster) on(host string) (started, stopped int) {
	toy := c.hosts[host]
	return toy.count(&toy.started), toy.count(&toy.stopped)
}

func (c *cluster) ready(name string) (ready int, message string) {
	content, err := os.ReadFile(filepath.Join(c.dir, ".berth/status/default/WorkloadDeployment", name+".json"))
	var shown struct {
		Status struct {
			Conditions []struct{ Message string }
			Replicas   struct{ Ready int }
		}
	}
	if err != nil || json.Unmarshal(content, &shown) != nil {
		return -1, ""
	}
	return shown.Status.Replicas.Ready, shown.Status.Conditions[0].Message
}

func TestTheSpreadSchedulerSpreadsAndSurvivesTheDeathOfAHost(t *testing.T) {
	c := newCluster(t)
	c.submit("shop", 4)
	c.scheduler()
	eventually(t, "a reason to wait", func() bool {
		_, message := c.ready("shop")
		return strings.Contains(message, "0 of 0 hosts fit")
	})
	c.host("h1")
	_, stop := c.host("h2")
	eventually(t, "four replicas", func() bool { ready, _ := c.ready("shop"); return ready == 4 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "four replicas on the host that is left", func() bool {
		started, stopped := c.on("h1")
		return started-stopped == 4
	})
	c.submit("shop", 1)
	eventually(t, "one replica", func() bool { started, stopped := c.on("h1"); return started-stopped == 1 })
	if err := os.Remove(filepath.Join(c.dir, "shop.json")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "none", func() bool { started, stopped := c.on("h1"); return started == stopped })
	eventually(t, "its deletion", func() bool { ready, _ := c.ready("shop"); return ready == -1 })
}

func TestTheSpreadSchedulerMayBeKilledAtAnyTime(t *testing.T) {
	c := newCluster(t)
	c.host("h1")
	c.host("h2")
	c.submit("shop", 4)
	c.submit("gone", 2)
	scheduler := c.scheduler()
	for name, replicas := range map[string]int{"shop": 4, "gone": 2} {
		eventually(t, "the replicas of "+name, func() bool { ready, _ := c.ready(name); return ready == replicas })
	}
	scheduler.end(syscall.SIGKILL)
	if err := os.Remove(filepath.Join(c.dir, "gone.json")); err != nil {
		t.Fatal(err)
	}
	scheduler = c.scheduler()
	eventually(t, "the end of what was deleted meanwhile", func() bool {
		_, first := c.on("h1")
		_, second := c.on("h2")
		return first+second == 2
	})
	eventually(t, "the replicas as before", func() bool { ready, _ := c.ready("shop"); return ready == 4 })
	first, _ := c.on("h1")
	second, _ := c.on("h2")
	if first != 3 || second != 3 {
		t.Errorf("%d and %d starts; want 3 and 3, none of them twice", first, second)
	}
	if code := scheduler.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM ends it with %d", code)
	}
	if first, second = c.hosts["h1"].count(&c.hosts["h1"].stopped), c.hosts["h2"].count(&c.hosts["h2"].stopped); first+second != 2 {
		t.Error("the end of the scheduler has stopped workloads")
	}
}

func TestTheSpreadSchedulerTellsWhatAHostRefuses(t *testing.T) {
	c := newCluster(t)
	c.host("h1")
	manifest := `{"kind":"Workload","metadata":{"name":"missing","namespace":"default"},"spec":{}}`
	if err := os.WriteFile(filepath.Join(c.dir, "missing.json"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := `{"kind":"Workload","metadata":{"name":"bad","namespace":"default"},"spec":{"service":{"maxRestarts":-1}}}`
	if err := os.WriteFile(filepath.Join(c.dir, "bad.json"), []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	c.scheduler()
	for name, message := range map[string]string{"missing": "no such image", "bad": "service.maxRestarts"} {
		eventually(t, message, func() bool {
			content, _ := os.ReadFile(filepath.Join(c.dir, ".berth/status/default/Workload", name+".json"))
			return strings.Contains(string(content), message) && !strings.Contains(string(content), `"True"`)
		})
	}
	eventually(t, "a second start under another id", func() bool { started, _ := c.on("h1"); return started >= 2 })
	if ids := c.hosts["h1"].ids(); ids[0] == ids[1] {
		t.Error("an id is used twice")
	}
}
