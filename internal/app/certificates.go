package app

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/obscura-relay/obscura/internal/admin"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/certificate"
	"github.com/obscura-relay/obscura/internal/postgres"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Certificates says with whose keys sender certificates are signed.
type Certificates struct {
	TrustRoot            string `placeholder:"BASE64" help:"Public key of a trust root of your own, 33 bytes in base64; its private key stays where you keep it. Together with --server-certificate and --server-certificate-key. Without them the keys are made at the first start and kept in the database."`
	ServerCertificate    string `placeholder:"FILE" help:"Server certificate that the trust root has signed: libsignal's, in base64."`
	ServerCertificateKey string `placeholder:"FILE" help:"Private key of the server certificate: 32 bytes, in base64."`
}

func (c *Certificates) validateCertificates() error {
	given := 0
	for _, value := range []string{c.TrustRoot, c.ServerCertificate, c.ServerCertificateKey} {
		if value != "" {
			given++
		}
	}
	if given != 0 && given != 3 {
		return errors.New("--trust-root, --server-certificate and --server-certificate-key must be given together")
	}
	return nil
}

// ownKeys are the operator's own, nil for those in the database.
func (c *Certificates) ownKeys() (*certificate.Keys, error) {
	if c.TrustRoot == "" {
		return nil, nil
	}
	root, err := base64.StdEncoding.DecodeString(c.TrustRoot)
	if err != nil {
		return nil, fmt.Errorf("--trust-root cannot be used: %w", certificate.ErrRoot)
	}
	server, err := decodeFile(c.ServerCertificate)
	if err != nil {
		return nil, fmt.Errorf("--server-certificate cannot be used: %w", err)
	}
	private, err := decodeFile(c.ServerCertificateKey)
	if err != nil {
		return nil, fmt.Errorf("--server-certificate-key cannot be used: %w", err)
	}
	keys, err := certificate.NewKeys(root, server, private)
	switch {
	case errors.Is(err, certificate.ErrRoot):
		return nil, fmt.Errorf("--trust-root cannot be used: %w", err)
	case errors.Is(err, certificate.ErrKey):
		return nil, fmt.Errorf("--server-certificate-key cannot be used: %w", err)
	case err != nil:
		return nil, fmt.Errorf("--server-certificate cannot be used: %w", err)
	}
	return keys, nil
}

// maxFile bounds what is read of a file that an operator names.
const maxFile = 256 << 10

// readFile reads a file that an operator names. Its error repeats neither what is in the file nor
// its name, which may be the key itself by mistake. A pipe is refused: the relay would wait for
// whoever writes to it, and could not read it a second time.
func readFile(name string) ([]byte, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if failure := (*fs.PathError)(nil); errors.As(err, &failure) {
		return nil, fmt.Errorf("the file cannot be opened: %w", failure.Err)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	switch info, err := file.Stat(); {
	case err != nil:
		return nil, errors.New("the file cannot be looked at")
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	}
	content, err := io.ReadAll(io.LimitReader(file, maxFile))
	if failure := (*fs.PathError)(nil); errors.As(err, &failure) {
		return nil, fmt.Errorf("the file cannot be read: %w", failure.Err)
	}
	return content, err
}

// decodeFile reads a file of base64.
func decodeFile(name string) ([]byte, error) {
	text, err := readFile(name)
	if err != nil {
		return nil, err
	}
	content, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(content) == 0 {
		return nil, errors.New("the file must hold base64")
	}
	return content, nil
}

// ShowCertificates prints the public key of the trust root, and the id of the server certificate.
func ShowCertificates(ctx context.Context, cfg Database, own Certificates, out, logOutput io.Writer) error {
	if err := own.validateCertificates(); err != nil {
		return err
	}
	keys, err := own.ownKeys()
	if err == nil && keys == nil {
		keys, err = storedKeys(ctx, cfg, logOutput, certificate.Stored)
	}
	return printKeys(out, keys, err)
}

// errOwnKeys refuses to rotate what no relay would use.
var errOwnKeys = errors.New("the server key is one of your own (--server-certificate): have the trust root sign another, " +
	"put it and its key in place of the files, and restart every node")

// RotateCertificates replaces the server key, and prints what ShowCertificates prints.
func RotateCertificates(ctx context.Context, cfg Database, own Certificates, out, logOutput io.Writer) error {
	if own != (Certificates{}) {
		return errOwnKeys
	}
	keys, err := storedKeys(ctx, cfg, logOutput, certificate.Rotate)
	return printKeys(out, keys, err)
}

func printKeys(out io.Writer, keys *certificate.Keys, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "trust root: %s\nserver certificate: %d\n", base64.StdEncoding.EncodeToString(keys.Root),
		keys.ID)
	return err
}

// storedKeys asks the database, a private one also while its relay runs.
func storedKeys(ctx context.Context, cfg Database, logOutput io.Writer,
	ask func(context.Context, *storage.DB) (*certificate.Keys, error)) (keys *certificate.Keys, err error) {
	err = withDatabase(ctx, cfg, logOutput, func(db *storage.DB) (err error) {
		keys, err = ask(ctx, db)
		return err
	})
	return keys, err
}

// Administer runs a command of the operator and prints its answer.
func Administer(ctx context.Context, cfg Database, c admin.Command, asJSON bool, out, logOutput io.Writer) error {
	with := withDatabase
	if _, distributes := c.(admin.OfCluster); distributes {
		with = withDatabaseInParts
	}
	return with(ctx, cfg, logOutput, func(db *storage.DB) error {
		answer, err := c.Do(ctx, db)
		if refused := (*core.Error)(nil); errors.As(err, &refused) && refused.Cause == nil {
			return errors.New(refused.Sentence)
		}
		if partial := (*admin.Partial)(nil); errors.As(err, &partial) {
			return errors.Join(admin.Print(out, asJSON, partial.Answer), err)
		}
		if err != nil {
			return err
		}
		return admin.Print(out, asJSON, answer)
	})
}

// withDatabase does something with the database, a private one also while its relay runs. It opens
// no port, and what it waits for is said once, in its error.
func withDatabase(ctx context.Context, cfg Database, logOutput io.Writer, do func(*storage.DB) error) error {
	return withDatabaseInParts(ctx, cfg, logOutput, func(db *storage.DB) error {
		if err := db.CheckWhole(ctx); err != nil {
			return err
		}
		if err := db.LearnBuckets(ctx); err != nil {
			return err
		}
		return do(db)
	})
}

// withDatabaseInParts also takes one on which a distribution has ended half-way, or of which a
// server is unavailable.
func withDatabaseInParts(ctx context.Context, cfg Database, logOutput io.Writer, do func(*storage.DB) error) error {
	return withAnyDatabase(ctx, cfg, newLogger("auto", slog.LevelError, logOutput), func(db *database) error {
		if err := db.main.CheckVersion(ctx); err != nil {
			return err
		}
		return do(db.main)
	})
}

// withAnyDatabase also takes one whose schema is not that of this binary.
// A server that is not ours is waited for as the doctor waits: somebody sits before this.
func withAnyDatabase(ctx context.Context, cfg Database, logger *slog.Logger, do func(*database) error) (err error) {
	patience := 2 * askTime
	if cfg.DatabaseURL == "" {
		patience = recoveryTimeout // it may have to be started
		exists, url, err := postgres.Find(filepath.Join(cfg.DataDir, "postgres"))
		if err != nil {
			return fmt.Errorf("the data folder %s cannot be looked into: %w: run this as the user that runs the relay, "+
				"or name another folder with --data-dir (OBSCURA_DATA_DIR)", cfg.DataDir, err)
		}
		if !exists {
			return fmt.Errorf("the data folder %s has no database: name another with --data-dir (OBSCURA_DATA_DIR), "+
				"or a database with --database-url (OBSCURA_DATABASE_URL)", cfg.DataDir)
		}
		cfg.DatabaseURL = url
	}
	opening, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	db, err := openDatabase(opening, cfg, asyncConns, logger)
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.close(startTimeout))
}
