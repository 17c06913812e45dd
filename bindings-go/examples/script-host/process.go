package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// process is the service of one workload, through all of its runs. It is the berth.Instance.
type process struct {
	command  []string // the interpreter, its arguments, the script
	dir      string   // its own, gone with it
	env      []string
	budget   budget
	reporter *berth.Reporter
	cancel   context.CancelFunc
	done     chan struct{}
}

// startProcess begins the first run. It fails before any code of the script has run.
func startProcess(script []byte, service *runtimev2.Service, reporter *berth.Reporter) (*process, error) {
	line, _, _ := bytes.Cut(script, []byte("\n"))
	interpreter, isScript := strings.CutPrefix(string(line), "#!")
	command := strings.Fields(interpreter)
	if !isScript || len(command) == 0 {
		return nil, fmt.Errorf("the service: image %q has nothing to run: there is no #! line", service.Image)
	}
	dir, err := os.MkdirTemp("", "script-host-")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "script")
	if err := os.WriteFile(path, script, 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// Nothing of the host's own environment: it may hold the host's secrets.
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	for key, value := range service.GetLocalResources().GetEnvironment() {
		env = append(env, key+"="+value)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{
		command: append(command, path), dir: dir, env: env, budget: budget{restarts: service.MaxRestarts},
		reporter: reporter, cancel: cancel, done: make(chan struct{}),
	}
	go p.live(ctx)
	return p, nil
}

// Stop kills the process. When it returns, nothing of it is left.
func (p *process) Stop(context.Context) {
	p.cancel()
	<-p.done
}

// live runs the script until it ends well, has no restarts left, or is stopped.
func (p *process) live(ctx context.Context) {
	defer close(p.done)
	defer p.clean()
	for {
		began := time.Now()
		err := p.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			p.reporter.Completed("the script ended well")
			return
		}
		wait, again := p.budget.failed(time.Since(began), rand.Float64())
		if !again {
			p.reporter.Failed(fmt.Sprintf("failed with no restarts left of %d: %v", p.budget.restarts, err))
			return
		}
		p.reporter.Starting(fmt.Sprintf("restart %d of %d in %v: %v", p.budget.used, p.budget.restarts, wait, err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
			p.reporter.Running("")
		}
	}
}

// run is one run, with whatever the script has started in turn: all of it is killed when ctx ends, and when
// the script itself has ended.
func (p *process) run(ctx context.Context) error {
	command := exec.CommandContext(ctx, p.command[0], p.command[1:]...)
	command.Dir, command.Env = p.dir, p.env
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	killGroup := func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.Cancel = killGroup
	if err := command.Start(); err != nil {
		return err
	}
	defer func() { _ = killGroup() }() // usually nobody is left
	return command.Wait()
}

func (p *process) clean() {
	if err := os.RemoveAll(p.dir); err != nil {
		slog.Warn("a directory is left behind", "error", err)
	}
}
