"""What FFmpeg's Matroska muxer drops: read from the source, put back into the result."""
