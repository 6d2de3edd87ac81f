"""What can go wrong, in sentences a person can act on."""

from __future__ import annotations

import re
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
BAD_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthFailure"}
FORBIDDEN = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem"}
NOT_FOUND = {"NoSuchKey", "404", "NotFound"}
CONFLICT = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


class CannotRunError(Exception):
    """The job cannot start or cannot go on; the message is one sentence for the user."""


class LockLostError(CannotRunError):
    """Another copy of the job took over the output."""


def error_code(error: ClientError) -> str:
    """Return S3's error code, for example `NoSuchKey`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_credential_fault(error: BaseException) -> bool:
    """Return whether every further request would fail for the same lack of credentials."""
    if isinstance(error, ClientError):
        return error_code(error) in EXPIRED | BAD_CREDENTIALS
    return isinstance(
        error,
        NoCredentialsError
        | PartialCredentialsError
        | TokenRetrievalError
        | UnauthorizedSSOTokenError
        | ProfileNotFound,
    )


def s3_sentence(error: Exception, doing: str) -> str:
    """Turn an S3 failure into one sentence that says what to do.

    Args:
        error: what boto3 raised.
        doing: what was being done, for example `list s3://bucket/prefix/`.
    """
    if isinstance(error, ClientError):
        return _response_sentence(error, doing)
    if is_credential_fault(error):
        return (
            f"Cannot {doing}: no usable AWS credentials were found ({_short(error)}). Set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile with AWS_PROFILE, or run where "
            "a role is attached; a public bucket is read with --no-sign-request."
        )
    if isinstance(error, NoRegionError):
        return f"Cannot {doing}: no AWS region is set. Set AWS_DEFAULT_REGION."
    if isinstance(error, EndpointConnectionError | ConnectionError | HTTPClientError):
        return (
            f"Cannot {doing}: the S3 endpoint does not answer ({_short(error)}). Check "
            "--endpoint-url (or AWS_ENDPOINT_URL) and the network, then run the same command again."
        )
    return f"Cannot {doing}: {_short(error)}."


def _response_sentence(error: ClientError, doing: str) -> str:
    code = error_code(error)
    if code in EXPIRED:
        return (
            f"Cannot {doing}: the AWS credentials have expired ({code}). Renew them and run the "
            "same command again."
        )
    if code in BAD_CREDENTIALS:
        return (
            f"Cannot {doing}: S3 does not accept the AWS credentials ({code}). Check "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the endpoint they belong to."
        )
    if code in FORBIDDEN:
        return (
            f"Cannot {doing}: these credentials have no permission to ({code}). Grant the actions "
            "listed in docs/batch.md, or use other credentials."
        )
    if code == "NoSuchBucket":
        return f"Cannot {doing}: the bucket does not exist. Check its name and --endpoint-url."
    if code == "PermanentRedirect":
        return f"Cannot {doing}: the bucket is in another region. Set AWS_DEFAULT_REGION to it."
    if code == "NotImplemented":
        return (
            f"Cannot {doing}: this S3 server does not know conditional writes, which keep two "
            "copies of a job apart. Write the output to a server that does, or to a local folder."
        )
    return f"Cannot {doing}: S3 answered {code or 'with an error'} ({_short(error)})."


def read_fault(error: Exception) -> str:
    """Return the `error` column's text for an object that could not be read.

    The word before the colon is the error kind that the summary counts.
    """
    if isinstance(error, FileNotFoundError):
        return "not_found: the object vanished between listing and reading"
    if isinstance(error, PermissionError):
        return "forbidden: these credentials may list the object but not read it"
    if isinstance(error, ClientError):
        code = error_code(error)
        if code in NOT_FOUND:
            return "not_found: the object vanished between listing and reading"
        if code in FORBIDDEN:
            return "forbidden: these credentials may list the object but not read it (or its key)"
        if code == "InvalidObjectState":
            return "archived: the object is in an archive tier; restore it, then --retry-failed"
        return f"read_failed: S3 answered {code} after every retry"
    return f"read_failed: {type(error).__name__} after every retry"


def is_transient_read_fault(text: str) -> bool:
    """Return whether a row's error speaks of the store and not of the object."""
    return text.startswith("read_failed:")


def is_s3_fault(error: BaseException) -> bool:
    """Return whether boto3 raised this."""
    return isinstance(error, BotoCoreError | ClientError | HTTPClientError)


def _short(error: Any) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= 200 else text[:197] + "..."


def without_passwords(text: str) -> str:
    """Return a text in which URLs (a tracking server's, say) have lost `user:password@`."""
    return re.sub(r"//[^/@\s]+@", "//", text)
