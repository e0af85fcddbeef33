package schema_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"testing"

	"github.com/obscura-relay/obscura/schema"
)

// frozen has the SHA-256 of each migration, as it was when it came. A database that has run a
// migration does not run it again: an edit reaches new databases only, and the two kinds then
// differ for ever.
var frozen = map[string]string{
	"00001_accounts.sql":           "201619085ab2dba7465f1b8dd1b123108cf10be7de6f42790f982fd8bc2fced4",
	"00002_keys.sql":               "e155e3df85f344ac42763fde8aee49d7e70526dad06723577f0b51437390adbe",
	"00003_mailbox.sql":            "6f6112162fe00c17e72e85ac0013bba293713268bbbc97ee234462c88feddfff",
	"00004_blobs.sql":              "3d3ae6082d77c0e4f93f7b839fd09ec393d963f9b3dc7ff5ef307ff4945cb138",
	"00005_push.sql":               "da20149c86e705d389884dd2bb565a12ff0580b612848264178921f01507c1e4",
	"00007_known_pre_keys.sql":     "296f193bad3ae02ecf7d02f00ea6f544a92c1f51cac034e00610af77d602f6f1",
	"00008_sessions.sql":           "db3a246e9fe0cc3d8893fac18371ee73be435087b6630944877bbcce1342e03b",
	"00010_names.sql":              "94048cc3e4baf2e035dc9862de42cf0374fe2be23074b748a6cafd7cb01d2231",
	"00011_remembered_devices.sql": "de52f090b9e293d7433e47370325a004b2ae294a10f22b0963566f9a7808edbe",
	"00012_certificates.sql":       "7955f66116ea23475aefb9ed8034329bb5a3783d45a2247a5ee83590ac8d5e34",
	"00013_devices_version.sql":    "fd1d22f02222729e71e547622bdd6aa2de116148677e2406455470ff42dea5ef",
	"00015_delivery_tokens.sql":    "da62ecc52b0e85c6e915cc98dae010fce1e4ff67d4cf6cdd015da4a4269b7cd3",
	"00016_quiet.sql":              "a22a598ed5347e55441120250560c0596a097d1c9b6e4c3a2784a85e377b2752",
	"00017_invitations.sql":        "67f713ff5d4375241df9279fbe32b98617ce5051144a2570bf93b531b4a0ec54",
	"00018_wrong_passwords.sql":    "cb86f054de1150dee71bfefaa5dc6843352bbb79d86e5fe2cf1cd0a3b6481583",
	"00019_password_changes.sql":   "f52654f40cb4c9b7f2415e619e1c8877fae5bdae135abf5cae3ef219dc1dcf5f",
	"00020_operators.sql":          "2bcd148bb6e1f7dbd6428c29daca60f9fd4fc78f4f6773c675f865e0bb21f43a",
	"00021_buckets.sql":            "1ed81880fca5d1c979ccb938c95feba9573ae48c65470c9a125b256486c5a856",
	"00022_claims.sql":             "d6b0d470e5b4f755e9fda642f03e9d1d1605742dc69aec7b3117d43af685e737",
	"00023_takeovers.sql":          "29cccb8f6a8ccdc1b16a2263b3cada2342fa5b0a564a1a0e363c6aa55a7d5a7d",
}

func TestMigrationsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(schema.FS, "*.sql")
	if err != nil || len(files) != len(frozen) {
		t.Errorf("%d migrations, %d are listed here, %v", len(files), len(frozen), err)
	}
	for _, name := range files {
		content, err := fs.ReadFile(schema.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		switch got := hex.EncodeToString(sum[:]); frozen[name] {
		case got:
		case "":
			t.Errorf("a new migration needs a line here: %q: %q", name, got)
		default:
			t.Errorf("%s was edited: write a new migration instead", name)
		}
	}
}
