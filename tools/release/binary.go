package main

import (
	"os"
	"path/filepath"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/rs/zerolog"
)

// program is the file of the binary. Its name has no version, so that a link to the newest one can
// have its name.
func (r *release) program(arch string) string { return filepath.Join(r.out, "obscura_linux_"+arch) }

// binary builds it: static, without the tables of symbols and of the debugger. Go itself writes the
// version, the commit and its time into it.
func (r *release) binary(arch string) error {
	target, err := filepath.Abs(r.program(arch))
	if err != nil {
		return err
	}
	cmd, err := r.command([]string{"GOARCH=" + arch}, "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w",
		"-o", target, "./cmd/obscura")
	if err != nil {
		return err
	}
	_, err = outputOf(cmd)
	return err
}

// bill lists the modules in the binary with their hashes, as CycloneDX. Licences are not
// looked for: what a registry has at the time would decide what is found.
func (r *release) bill(arch string) error {
	logger := zerolog.New(os.Stderr).Level(zerolog.WarnLevel)
	generator, err := bin.NewGenerator(r.program(arch), bin.WithLogger(logger), bin.WithIncludeStdlib(true))
	if err != nil {
		return err
	}
	bom, err := generator.Generate()
	if err != nil {
		return err
	}
	bom.Metadata.Timestamp = r.time.Format("2006-01-02T15:04:05Z07:00")
	file, err := os.Create(r.program(arch) + ".cdx.json")
	if err != nil {
		return err
	}
	defer file.Close()
	return cdx.NewBOMEncoder(file, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}
