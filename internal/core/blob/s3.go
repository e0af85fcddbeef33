package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// bucket keeps blobs in S3 or what speaks its language. Since the size of a blob is known, one
// request stores it, and there are no parts that could be left behind.
type bucket struct {
	client       minio.Core
	name, prefix string
	encryption   encrypt.ServerSide
}

// bucketOptions is what the query of an s3 URL says.
type bucketOptions struct {
	region, endpoint, prefix, encryption, key string
	pathStyle                                 bool
}

// optionsOf reads the query of an s3 URL.
func optionsOf(u *url.URL) (o bucketOptions, err error) {
	known := []string{"region", "endpoint", "prefix", "ssetype", "kmskeyid", "use_path_style"}
	q := u.Query()
	for name := range q {
		if !slices.Contains(known, name) {
			return o, fmt.Errorf("--blob-url: there is no %s; there are %s", name, strings.Join(known, ", "))
		}
	}
	o = bucketOptions{region: q.Get("region"), endpoint: q.Get("endpoint"), prefix: q.Get("prefix"),
		encryption: q.Get("ssetype"),
		key:        q.Get("kmskeyid")}
	if q.Has("use_path_style") {
		if o.pathStyle, err = strconv.ParseBool(q.Get("use_path_style")); err != nil {
			return o, errors.New("--blob-url: use_path_style must be true or false")
		}
	}
	for _, variable := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if o.region == "" {
			o.region = os.Getenv(variable)
		}
	}
	if o.endpoint == "" {
		o.endpoint = "https://s3.amazonaws.com"
	}
	endpoint, err := url.Parse(o.endpoint)
	switch {
	case o.region == "":
		return o, errors.New("--blob-url names no region: add region=REGION, or set AWS_REGION")
	case err != nil || endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https":
		return o, errors.New("--blob-url: endpoint must look like https://s3.example.org")
	case !slices.Contains([]string{"", "AES256", "aws:kms"}, o.encryption):
		return o, errors.New("--blob-url: ssetype must be AES256 or aws:kms")
	}
	return o, nil
}

// retries is how often a call is made at most that can be repeated.
const retries = 3

func openBucket(u *url.URL) (*bucket, error) {
	o, err := optionsOf(u)
	if err != nil {
		return nil, err
	}
	endpoint, err := url.Parse(o.endpoint)
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupDNS
	if o.pathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.NewCore(endpoint.Host, &minio.Options{Secure: endpoint.Scheme == "https", Region: o.region,
		BucketLookup: lookup, MaxRetries: retries,
		Creds: credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{},
			&credentials.FileAWSCredentials{}, &credentials.IAM{}})})
	if err != nil {
		return nil, err
	}
	b := &bucket{client: *client, name: u.Host, prefix: o.prefix}
	switch o.encryption {
	case "AES256":
		b.encryption = encrypt.NewSSE()
	case "aws:kms":
		b.encryption, err = encrypt.NewSSEKMS(o.key, nil)
	}
	return b, err
}

func (b *bucket) put(ctx context.Context, key string, body io.Reader, size int64) error {
	// What cannot be read twice can be neither hashed before it is sent nor sent again.
	_, err := b.client.Client.PutObject(ctx, b.name, b.prefix+key, body, size,
		minio.PutObjectOptions{ContentType: octets,
			DisableMultipart: true, DisableContentSha256: true, ServerSideEncryption: b.encryption})
	return err
}

func (b *bucket) open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	var o minio.GetObjectOptions
	if err := o.SetRange(offset, offset+length-1); err != nil {
		return nil, err
	}
	r, _, _, err := b.client.GetObject(ctx, b.name, b.prefix+key, o)
	if err != nil && minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil, errMissing
	}
	return r, err
}

func (b *bucket) delete(ctx context.Context, key string) error {
	return b.client.RemoveObject(ctx, b.name, b.prefix+key, minio.RemoveObjectOptions{}) // none is no error
}

func (b *bucket) each(ctx context.Context, prefix string, visit func(key string, changed time.Time) error) error {
	for object := range b.client.ListObjectsIter(ctx, b.name,
		minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true, MaxKeys: listPage}) {
		if object.Err != nil {
			return object.Err
		}
		if err := visit(strings.TrimPrefix(object.Key, b.prefix), object.LastModified); err != nil {
			return err
		}
	}
	return ctx.Err()
}
