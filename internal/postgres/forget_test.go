package postgres_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/obscura-relay/obscura/internal/postgres"
)

// filesWith lists the files below a folder that hold a text.
func filesWith(t *testing.T, folder, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		var data []byte
		if err == nil && entry.Type().IsRegular() {
			data, err = os.ReadFile(path)
		}
		if errors.Is(err, fs.ErrNotExist) { // the server removes files of its own
			return nil
		}
		if bytes.Contains(data, []byte(text)) {
			found = append(found, path[len(folder):])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

const (
	secretRows   = "INSERT INTO mail SELECT 'who-to-whom-' || g FROM generate_series(1, 200) g"
	secretMarker = "who-to-whom-"
)

// What was deleted and vacuumed is in the log no more, also in a quiet server whose segment is not
// full.
func TestTheLogForgetsWhatWasDeleted(t *testing.T) {
	cfg := config(t.TempDir())
	c := start(t, cfg)
	for _, sql := range []string{"CREATE TABLE mail (t text) WITH (autovacuum_enabled = false)", "CHECKPOINT",
		secretRows, "DELETE FROM mail", "VACUUM mail"} {
		mustExec(t, c.URL(), sql)
	}
	if len(filesWith(t, cfg.DataDir, secretMarker)) == 0 {
		t.Fatal("the test sees nothing")
	}
	if err := postgres.Forget(t.Context(), c.URL()); err != nil {
		t.Fatal(err)
	}
	if found := filesWith(t, cfg.DataDir, secretMarker); len(found) != 0 {
		t.Errorf("it is still in %v", found)
	}
	for _, sql := range []string{secretRows, "DELETE FROM mail", "VACUUM mail"} {
		mustExec(t, c.URL(), sql)
	}
	stop(t, c)
	if found := filesWith(t, cfg.DataDir, secretMarker); len(found) != 0 {
		t.Errorf("after a stop it is in %v", found)
	}
}

// Not parallel: the environment is everybody's. The cluster is made under all of the variables,
// since that takes longest, and started again under each alone.
func TestVariablesOfTheEnvironmentDoNotReachTheServer(t *testing.T) {
	variables := map[string]string{
		"PGHOST": "192.0.2.1", "PGHOSTADDR": "192.0.2.1", "PGPORT": "1", "PGDATABASE": "nowhere", "PGUSER": "nobody",
		"PGPASSWORD": "x", "PGPASSFILE": "/none",
		"PGSERVICE": "none", "PGSERVICEFILE": "/none", "PGOPTIONS": "-c no_such_setting=1", "PGAPPNAME": "x",
		"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/none",
		"PGSSLCERT": "/none", "PGSSLKEY": "/none", "PGSSLCERTMODE": "none", "PGSSLNEGOTIATION": "direct",
		"PGCONNECT_TIMEOUT": "abc", "PGTARGETSESSIONATTRS": "standby",
		"PGTZ": "Nowhere/None", "PGMINPROTOCOLVERSION": "9.9", "PGMAXPROTOCOLVERSION": "1.0",
		"PGCHANNELBINDING": "require", "PGREQUIREAUTH": "none-such",
		"PGDATA": "/none", "PGCLIENTENCODING": "LATIN1",
	}
	folder := t.TempDir()
	try := func(t *testing.T) {
		c := start(t, config(folder))
		if got := query[int](t, c.URL(), "SELECT 1"); got != 1 {
			t.Error(got)
		}
		stop(t, c)
	}
	t.Run("all", func(t *testing.T) {
		for name, value := range variables {
			t.Setenv(name, value)
		}
		try(t)
	})
	for name, value := range variables {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			try(t)
		})
	}
}
