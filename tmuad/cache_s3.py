"""The per-image cache in a bucket: every machine with the credentials shares it, no file system needed.

Credentials, region and endpoint are those of AWS's own settings (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ~/.aws/config).
An object appears whole or not at all, so what holds for the folder holds here.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tmuad.cache import Cache
from tmuad.errors import ParameterError

SCHEME = "s3://"
AT_ONCE = 32  # questions to the bucket; each waits for the network


class S3Cache(Cache):
    """See `tmuad.cache.Cache`; `url` is s3://BUCKET/PREFIX."""

    def __init__(self, url: str) -> None:
        super().__init__(Path())
        self.url = url
        self.bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        if not self.bucket:
            raise ParameterError(f"data.cache: {url}: names no bucket; give s3://BUCKET/PREFIX")
        self._clients: dict[int, Any] = {}  # by process: a forked one must not share a connection

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_clients": {}}

    def has(self, image_id: str, kind: str) -> bool:
        return self._ask("head_object", image_id, kind) is not None

    def lacking(self, image_ids: Sequence[str], kind: str) -> list[str]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            there = list(pool.map(lambda image_id: self.has(image_id, kind), image_ids))
        return [image_id for image_id, found in zip(image_ids, there, strict=True) if not found]

    def read(self, image_id: str, kind: str) -> bytes | None:
        answer = self._ask("get_object", image_id, kind)
        return None if answer is None else bytes(answer["Body"].read())

    def write(self, image_id: str, kind: str, entry: bytes) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.put_object(Bucket=self.bucket, Key=self._key(image_id, kind), Body=entry)
        except (BotoCoreError, ClientError) as error:
            self.refused = str(error)

    def remove(self, image_id: str, kind: str) -> None:
        self._ask("delete_object", image_id, kind)

    def writable(self) -> bool:
        self.write("writable", str(os.getpid()), b"")
        if not self.refused:
            self.remove("writable", str(os.getpid()))
        return not self.refused

    def _key(self, image_id: str, kind: str) -> str:
        return f"{self.prefix}{self._path(image_id, kind).as_posix()}"

    @property
    def _client(self) -> Any:
        if os.getpid() not in self._clients:
            import boto3
            from botocore.config import Config

            patience = Config(
                connect_timeout=5, read_timeout=60, max_pool_connections=AT_ONCE,
                retries={"max_attempts": 3, "mode": "standard"},
            )  # fmt: skip
            self._clients[os.getpid()] = boto3.session.Session().client("s3", config=patience)
        return self._clients[os.getpid()]

    def _ask(self, call: str, image_id: str, kind: str) -> Any:
        """The answer; None if there is no such object.

        Raises:
            ParameterError: the bucket is not there, or not ours to read.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, call)(Bucket=self.bucket, Key=self._key(image_id, kind))
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return None
            reason = str(error)
        except BotoCoreError as error:
            reason = str(error)
        raise ParameterError(
            f"data.cache: {self.url}: cannot be read ({reason}); check bucket, credentials and AWS_ENDPOINT_URL"
        )
