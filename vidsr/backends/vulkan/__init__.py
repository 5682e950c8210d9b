"""Convolutions by ncnn on any GPU that Vulkan knows, in a process of their own."""
