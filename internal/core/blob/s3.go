package blob

import (
	"context"
	"io"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"gocloud.dev/blob"
)

// s3Bucket writes to S3 itself: gocloud's writer collects 16 MiB and more of every blob in memory before it
// sends any. Since the size is known, one request does, and there are no parts that could be left behind.
type s3Bucket struct {
	client        *s3.Client
	name, prefix  string
	encryption    types.ServerSideEncryption
	encryptionKey *string
}

func newS3Bucket(bucket *blob.Bucket, u *url.URL) *s3Bucket {
	q := u.Query()
	b := &s3Bucket{name: u.Host, prefix: q.Get("prefix"), encryption: types.ServerSideEncryption(q.Get("ssetype"))}
	if key := q.Get("kmskeyid"); key != "" {
		b.encryptionKey = &key
	}
	if !bucket.As(&b.client) {
		return nil
	}
	return b
}

func (b *s3Bucket) write(ctx context.Context, key string, body io.Reader, size int64) error {
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.name, Key: aws.String(b.prefix + key), Body: body,
		ContentLength: &size, ContentType: aws.String(octets), ServerSideEncryption: b.encryption, SSEKMSKeyId: b.encryptionKey},
		func(o *s3.Options) {
			// What cannot be read twice can be neither hashed before it is sent nor sent again.
			o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.RetryMaxAttempts = 1
		})
	return err
}
