package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the unit of CPU times in /proc: USER_HZ, 100 a second on every Linux.
const clockTick = 10 * time.Millisecond

// stat reads /proc/PID/stat: the parent, the name, and the CPU time, user and system, of the
// process and of its children that have ended.
func stat(pid int) (parent int, name string, own, ended time.Duration, ok bool) {
	b, err := os.ReadFile(procFile(pid, "stat"))
	end := bytes.LastIndexByte(b, ')')
	begin := bytes.IndexByte(b, '(')
	if err != nil || begin < 0 || end < begin {
		return 0, "", 0, 0, false
	}
	name = string(b[begin+1 : end])
	f := strings.Fields(string(b[end+1:])) // from the third field on
	if len(f) < 15 {
		return 0, "", 0, 0, false
	}
	ticks := func(i int) time.Duration {
		n, _ := strconv.ParseInt(f[i-3], 10, 64)
		return time.Duration(n) * clockTick
	}
	parent, _ = strconv.Atoi(f[1])
	return parent, name, ticks(14) + ticks(15), ticks(16) + ticks(17), true
}

func procFile(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

// children lists the processes that a process has started.
func children(pid int) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if parent, _, _, _, ok := stat(child); ok && parent == pid {
			pids = append(pids, child)
		}
	}
	return pids
}

// familyCPU is the CPU time of a process, of its children and of those that have ended. A child
// that ends meanwhile is in neither sum: then what those have used has grown, and all is read
// again.
func familyCPU(pid int) (total time.Duration) {
	_, _, own, ended, _ := stat(pid)
	for range 100 {
		total = own + ended
		for _, child := range children(pid) {
			_, _, used, waited, _ := stat(child)
			total += used + waited
		}
		before := ended
		if _, _, own, ended, _ = stat(pid); ended == before {
			break
		}
	}
	return total
}

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memory reads a line such as VmRSS or VmHWM (the peak) of /proc/PID/status, in bytes.
func memory(pid int, line string) int64 {
	b, _ := os.ReadFile(procFile(pid, "status"))
	for _, l := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// allowFiles raises how many files this process and its children may have open, as far as it may.
func allowFiles(n uint64) {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return
	}
	if l.Max < n && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}) == nil {
		return
	}
	l.Cur = l.Max
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l) // what cannot be opened later is counted as an error
}
