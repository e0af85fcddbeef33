package api

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"github.com/obscura-relay/obscura/gen/api"
)

// UploadAttachment is not built yet.
func (s *server) UploadAttachment(context.Context, api.UploadAttachmentRequestObject) (api.UploadAttachmentResponseObject, error) {
	return nil, fiber.ErrNotFound
}

// DownloadAttachment is not built yet.
func (s *server) DownloadAttachment(context.Context, api.DownloadAttachmentRequestObject) (api.DownloadAttachmentResponseObject, error) {
	return nil, fiber.ErrNotFound
}

// UploadBackup is not built yet.
func (s *server) UploadBackup(context.Context, api.UploadBackupRequestObject) (api.UploadBackupResponseObject, error) {
	return nil, fiber.ErrNotFound
}

// DownloadBackup is not built yet.
func (s *server) DownloadBackup(context.Context, api.DownloadBackupRequestObject) (api.DownloadBackupResponseObject, error) {
	return nil, fiber.ErrNotFound
}

// HeadBackup is not built yet.
func (s *server) HeadBackup(context.Context, api.HeadBackupRequestObject) (api.HeadBackupResponseObject, error) {
	return nil, fiber.ErrNotFound
}
