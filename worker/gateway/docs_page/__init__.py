"""The page `/docs`: the OpenAPI document as HTML, for people; nothing of it runs or is loaded.

Text of the document becomes HTML in `markup` alone, which escapes it.
"""

from worker.gateway.docs_page.page import DocsPage

__all__ = ["DocsPage"]
