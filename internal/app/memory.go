package app

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	rtmetrics "runtime/metrics"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// freeMemory is how much more memory the process may take: the least that the machine, its cgroup
// and GOMEMLIMIT leave.
func freeMemory() (float64, error) {
	proc, err := procfs.NewFS(procfs.DefaultMountPoint)
	if err != nil {
		return 0, err
	}
	machine, err := proc.Meminfo()
	if err != nil {
		return 0, err
	}
	free := math.Inf(1)
	if machine.MemAvailableBytes != nil {
		free = float64(*machine.MemAvailableBytes)
	}
	free = min(free, freeOfGo(debug.SetMemoryLimit(-1)))
	self, err := proc.Self()
	if err != nil {
		return 0, err
	}
	groups, err := self.Cgroups()
	for _, group := range groups {
		if group.HierarchyID == 0 { // version 2
			free = min(free, freeOfCgroup(os.DirFS("/sys/fs/cgroup"), group.Path))
		}
	}
	return free, err
}

// freeOfCgroup is the least that a cgroup and those above it leave, infinite without a limit. Files
// that are only cached count as free.
func freeOfCgroup(root fs.FS, name string) float64 {
	free := math.Inf(1)
	for dir := path.Join(".", name); ; dir = path.Dir(dir) {
		limit, err := fs.ReadFile(root, path.Join(dir, "memory.max"))
		most, noLimit := strconv.ParseFloat(strings.TrimSpace(string(limit)), 64) // "max" is none
		used, err2 := fs.ReadFile(root, path.Join(dir, "memory.current"))
		stat, err3 := fs.ReadFile(root, path.Join(dir, "memory.stat"))
		if err == nil && noLimit == nil && err2 == nil && err3 == nil {
			left, _ := strconv.ParseFloat(strings.TrimSpace(string(used)), 64)
			left = most - left
			for line := range strings.Lines(string(stat)) {
				key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
				if key == "inactive_file" || key == "active_file" || key == "slab_reclaimable" {
					cached, _ := strconv.ParseFloat(value, 64)
					left += cached
				}
			}
			free = min(free, left)
		}
		if dir == "." {
			return free
		}
	}
}

// freeOfGo is what GOMEMLIMIT leaves beside what is in use. Garbage is collected before the limit
// is passed, so it counts as free.
func freeOfGo(limit int64) float64 {
	if limit == math.MaxInt64 {
		return math.Inf(1)
	}
	samples := []rtmetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
	rtmetrics.Read(samples)
	value := func(i int) float64 { return float64(samples[i].Value.Uint64()) }
	used := value(0) - value(1) - value(2) - value(3) - value(4) + min(value(4), value(5))
	return float64(limit) - used
}
