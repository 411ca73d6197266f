"""Which fields of messages are structure, and which are content."""

from __future__ import annotations

STRUCTURE = frozenset(
    {
        *("role", "type", "kind", "part_kind", "block_type", "object", "phase", "original_type", "index", "format"),
        *("id", "call_id", "tool_call_id", "tool_use_id", "approval_request_id", "parent_id", "item_id", "response_id"),
        *(
            "run_id",
            "conversation_id",
            "provider_response_id",
            "container_id",
            "file_id",
            "vector_store_id",
            "image_id",
        ),
        *("name", "tool_name", "server_name", "server_label", "namespace", "provider_name", "tool_kind"),
        *("status", "outcome", "finish_reason", "stop_reason", "state", "execution", "is_error", "error_code", "scope"),
        *("model", "model_name", "model_id", "source_type", "detail", "caller", "chunk_position"),
        *(
            "media_type",
            "mime_type",
            "image_mimetype",
            "document_mimetype",
            "video_mimetype",
            "timestamp",
            "created_at",
        ),
    }
)
"""The keys of structure: roles, types, ids, names of tools, states and models."""

MEDIA = frozenset(
    {
        *("image", "image_url", "input_image", "computer_screenshot", "image-url", "image_generation_call"),
        *("file", "input_file", "document", "document-url", "uploaded-file", "hosted_file"),
        *("audio", "input_audio", "audio-url", "video", "video-url", "binary", "media"),
    }
)
"""The types of parts that are an image, a file, a sound or a video."""
