package gate

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/need"
)

func TestX19_OnlyTheInitiatorsUsersPresentWhatHeWasGiven(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	path, ran := r.mark()
	for name, row := range map[string]struct {
		callers Callers
		uid     uint32
		err     error
		want    denial.Reason // 0: it runs
	}{
		"one of his":             {Callers{robotURI: {1000, 1001}}, 1001, nil, 0},
		"nobody is asked":        {nil, 1002, errors.New("not to be asked"), 0},
		"another user":           {Callers{robotURI: {1000, 1001}}, 1002, nil, denial.WorkloadMismatch},
		"root is no exception":   {Callers{robotURI: {1000}}, 0, nil, denial.WorkloadMismatch},
		"another's user":         {Callers{robotURI: {1000}, "spiffe://example/other": {1002}}, 1002, nil, denial.WorkloadMismatch},
		"not named":              {Callers{}, 0, nil, denial.WorkloadMismatch},
		"the kernel is not sure": {Callers{robotURI: {0}}, 0, errors.New("no answer"), denial.Internal},
	} {
		o := r.options()
		o.Callers, o.caller = row.callers, func() (uint32, error) { return row.uid, row.err }
		r.gate = must(Open(t.Context(), o))(t)
		cmd := r.command("mark", path)
		if row.want == 0 {
			if r.runs(cmd, 0); !ran() {
				t.Errorf("%s: it did not run", name)
			}
			_ = os.Remove(path)
			continue
		}
		out := r.refuses(cmd, row.want)
		if ran() || !out.Logged || out.Denied.Stage != denial.StagePossession {
			t.Errorf("%s: ran: %v; %+v", name, ran(), out)
		}
		// The use is not gone: who may, still can.
		if o.Callers = nil; row.want == denial.WorkloadMismatch {
			r.gate = must(Open(t.Context(), o))(t)
			r.runs(cmd, 0)
			_ = os.Remove(path)
		}
	}
}

// TestHelperCaller says who calls. It is no test.
func TestHelperCaller(t *testing.T) {
	if os.Getenv(helper+"_UID") == "" {
		return // run by TestX19_CallerIsWhoLoggedIn only
	}
	uid := must(strconv.Atoi(os.Getenv(helper + "_UID")))(t)
	if err := syscall.Setreuid(uid, -1); err != nil { // as in a set-user-ID program, which belongs to the gate
		t.Fatal(err)
	}
	os.Stdout.WriteString("caller " + strconv.FormatUint(uint64(must(caller())(t)), 10) + "\n")
}

// The kernel says who it is, whatever user the gate runs as.
func TestX19_CallerIsWhoLoggedIn(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		need.Missing(t, "only root can be another user: run the tests as root")
	}
	if login, err := os.ReadFile("/proc/self/loginuid"); err != nil || strings.TrimSpace(string(login)) != strconv.Itoa(noLogin) {
		need.Missing(t, "this kernel keeps no logins, or this test has one, which cannot be changed: run the tests outside of a login")
	}
	for _, row := range []struct{ login, uid, want string }{
		{"", "0", "0"},
		{"", "12345", "12345"},
		{"4242", "0", "4242"}, // sudo, su
		{"4242", "12345", "4242"},
	} {
		// A shell has one thread, and only the first one of a process can say who has logged in.
		cmd := exec.Command("/bin/sh", "-c", `[ -z "$1" ] || echo "$1" >/proc/self/loginuid; exec "$0" -test.run="^TestHelperCaller$"`, os.Args[0], row.login)
		cmd.Env = append(os.Environ(), helper+"_UID="+row.uid)
		out, err := cmd.Output()
		if line, _, _ := strings.Cut(string(out), "\n"); err != nil || line != "caller "+row.want {
			t.Errorf("login %q, user %s: got %q, %v, want %s", row.login, row.uid, out, err, row.want)
		}
	}
}
