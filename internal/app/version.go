package app

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version is the module's version, or the commit that was built.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// Build is the version with the commit, the time of the commit and what compiled it, in one line.
// Go writes them into the binary.
func Build() string {
	settings := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
	}
	return fmt.Sprintf("%s, commit %s of %s, %s %s/%s", Version(), cmp.Or(settings["vcs.revision"], "unknown"),
		cmp.Or(settings["vcs.time"], "unknown"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
