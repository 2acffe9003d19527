"""
A small Hub on loopback, in memory: enough for the real `huggingface_hub` client to publish and load models, and to
publish data sets, which lie among the models as `<name>@data`.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import unquote

import uvicorn
import yaml
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse


# Token -> user and whether it may write. Any other token is unknown to the server.
USERS = {"x": ("owner", True), "reader": ("owner", False), "guest": ("guest", True)}
LARGE = (".safetensors", ".png", ".onnx", ".parquet")
DATA = "@data"
_NAME = re.compile(r"([\w.-]+/)?[\w.-]+")


@dataclass
class Repo:
    """One model repository or Space: every commit is a whole tree, every reference names a commit."""

    private: bool
    sdk: str | None = None  # of a Space
    refs: dict[str, str] = field(default_factory=dict)  # main, branches, tags, refs/pr/N -> commit
    tags: set[str] = field(default_factory=set)
    requests: list[dict] = field(default_factory=list)  # pull requests, as the discussions route tells them
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit -> path -> content
    messages: list[str] = field(default_factory=list)

    def commit(self, ref: str, files: dict[str, bytes], message: str) -> str:
        sha = hashlib.sha1(f"{len(self.commits)} {message}".encode()).hexdigest()
        self.commits[sha], self.refs[ref] = files, sha
        self.messages.append(message)
        return sha

    def tree(self, revision: str = "main") -> tuple[str, dict[str, bytes]]:
        sha = self.refs.get(revision, revision)
        return sha, self.commits[sha]


class Refusal(Exception):
    """An answer other than 2xx, with the headers the client reads."""

    def __init__(self, status: int, code: str = "", message: str = ""):
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message}


def _oid(path: str, content: bytes) -> str:
    """What the Hub calls a file's content: SHA-256 of a large file, git's SHA-1 of a regular one."""
    if path.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _metadata(card: bytes | str) -> dict:
    text = card.decode() if isinstance(card, bytes) else card
    block = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    return yaml.safe_load(block[1]) if block else {}


class Hub:
    """
    The server's state and its answers. `log` holds every request as `"METHOD path"`; the next request that begins
    with one of `failures` is answered with its status.
    """

    def __init__(self):
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.log: list[str] = []
        self.failures: dict[str, int] = {}
        self.endpoint = ""

    def fail(self, request: str) -> None:
        for start in [start for start in self.failures if request.startswith(start)]:
            raise Refusal(self.failures.pop(start), message="out of order")

    def repo(self, repo_id: str, revision: str = "main", user: str | None = None) -> Repo:
        hidden = user is not None and repo_id in self.repos and self.repos[repo_id].private
        if repo_id not in self.repos or (hidden and user != repo_id.split("/")[-2]):
            raise Refusal(404 if user != "" else 401, "RepoNotFound", "Repository not found")
        repo = self.repos[repo_id]
        if revision not in repo.refs and revision not in repo.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo

    def answer(self, method: str, parts: list[str], user: str, may_write: bool, query: dict, body: bytes):
        """The JSON of one request; `parts` are the path's segments, unquoted."""
        if method == "POST" and parts != ["api", "validate-yaml"]:
            self.check_right(parts, user, may_write, proposes=query.get("create_pr") == "1")
        if parts[:2] == ["api", "spaces"]:
            parts = ["api", "models", f"spaces/{parts[2]}", *parts[3:]]
        if parts[:2] == ["api", "models"]:
            self.repo(f"{parts[2]}/{parts[3]}", user=user)
        match method, parts:
            case "GET", ["api", "whoami-v2"]:
                return {"type": "user", "name": user, "orgs": [], "auth": {"type": "access_token"}}
            case "POST", ["api", "validate-yaml"]:
                return self.validate(json.loads(body)["content"])
            case "POST", ["api", "repos", "create"]:
                return self.create(user, json.loads(body))
            case "GET", ["api", "models", owner, name]:
                return self.info(f"{owner}/{name}", "main")
            case "GET", ["api", "models", owner, name, "revision", revision]:
                return self.info(f"{owner}/{name}", revision)
            case "GET", ["api", "models", owner, name, "refs"]:
                repo = self.repo(f"{owner}/{name}")
                heads = {ref: sha for ref, sha in repo.refs.items() if not ref.startswith("refs/pr/")}
                kinds = {"branches": heads.keys() - repo.tags, "tags": repo.tags}
                return {"converts": []} | {
                    kind: [{"name": ref, "ref": f"refs/{kind}/{ref}", "targetCommit": heads[ref]} for ref in refs]
                    for kind, refs in kinds.items()
                }
            case "GET", ["api", "models", owner, name, "discussions"]:
                found = [r for r in self.repo(f"{owner}/{name}").requests if r["author"]["name"] == query["author"]]
                return {"discussions": found, "count": len(found), "start": 0}
            case "GET", ["api", "models", owner, name, "tree", revision, *folder]:
                _, files = self.repo(f"{owner}/{name}", revision).tree(revision)
                if folder:
                    raise Refusal(404, "EntryNotFound", "no such folder")
                return [{"type": "file", "path": p, "size": len(c), "oid": _oid(p, c)} for p, c in files.items()]
            case "POST", ["api", "models", owner, name, "branch" | "tag" as kind, ref]:
                payload = json.loads(body or b"{}")
                repo = self.repo(f"{owner}/{name}")
                new = payload["tag"] if kind == "tag" else ref
                if new in repo.refs:
                    raise Refusal(409, message="Reference already exists")
                repo.refs[new] = repo.tree(ref if kind == "tag" else payload.get("startingPoint", "main"))[0]
                repo.tags |= {new} if kind == "tag" else set()
                return {}
            case "POST", ["api", "models", owner, name, "preupload", revision]:
                _, files = self.repo(f"{owner}/{name}", revision).tree(revision)
                return {"files": [self.upload_mode(file["path"], files) for file in json.loads(body)["files"]]}
            case "POST", ["api", "models", owner, name, "commit", revision]:
                proposed_by = user if query.get("create_pr") == "1" else None
                return self.commit(f"{owner}/{name}", revision, body, proposed_by)
            case "POST", [*_, "info", "lfs", "objects", "batch"]:
                return {"transfer": "basic", "objects": [self.lfs_action(o) for o in json.loads(body)["objects"]]}
            case "PUT", ["lfs", oid]:
                if hashlib.sha256(body).hexdigest() != oid:
                    raise Refusal(400, message="the content does not have this SHA-256")
                self.blobs[oid] = body
                return {}
            case "POST", ["lfs", oid, "verify"]:
                if len(self.blobs[oid]) != json.loads(body)["size"]:
                    raise Refusal(400, message="the content does not have this size")
                return {}
        raise Refusal(404, "EntryNotFound", f"no route for {method} /{'/'.join(parts)}")

    def check_right(self, parts: list[str], user: str, may_write: bool, proposes: bool) -> None:
        """Writing needs a token that may, and the owner's; whoever may write may propose a change to a public repo."""
        owner = {"api": parts[2], "lfs": user, "spaces": parts[1]}.get(parts[0], parts[0])
        if parts[:3] == ["api", "repos", "create"]:
            owner = user
        elif parts[-2:-1] == ["preupload"] or parts[-1] == "batch":
            proposes = True  # uploaded for a commit, which asks again
        if parts[-2:-1] == ["commit"] and (request := self.request(f"{parts[2]}/{parts[3]}", parts[-1])):
            proposes = proposes or request["author"]["name"] == user
        if not may_write or (user != owner and not proposes):
            raise Refusal(403, message="You don't have the rights to write here")

    def request(self, repo_id: str, ref: str) -> dict | None:
        requests = self.repos[repo_id].requests if repo_id in self.repos else []
        return next((request for request in requests if ref == f"refs/pr/{request['num']}"), None)

    def validate(self, content: str) -> dict:
        """The checks of the Hub that a card of ours could fail."""
        card, errors = _metadata(content), []
        if card.get("license", "mit") not in ("apache-2.0", "mit", "cc-by-nc-4.0", "other"):
            errors.append(f'"license" must be one of the Hub\'s licences, not {card.get("license")}')
        if card.get("license") == "other" and not card.get("license_name"):
            errors.append('"license_name" is required with "license: other"')
        for key in ("datasets", "base_model"):
            values = card.get(key, [])
            values = [values] if isinstance(values, str) else values
            errors += [f'"{key}" {value} is no repository' for value in values if not _NAME.fullmatch(value)]
        for model in card.get("model-index", []):
            for result in model["results"]:
                if not (result["task"]["type"] and result["dataset"]["name"] and result["dataset"]["type"]):
                    errors.append("model-index: task and dataset are required")
                if any(isinstance(m["value"], str) for m in result["metrics"]):
                    errors.append("model-index: a metric value must be a number")
        answer = {"errors": [{"message": error} for error in errors], "warnings": []}
        return JSONResponse(answer, status_code=400) if errors else answer

    def create(self, user: str, payload: dict) -> dict:
        owner = payload.get("organization") or user
        repo_id = f"{owner}/{payload['name']}"
        if payload.get("type") == "space":
            repo_id = f"spaces/{repo_id}"
        elif payload.get("type") == "dataset":
            repo_id += DATA
        if owner != user:
            raise Refusal(403, message=f"You don't have the rights to create a model under {owner}")
        url = f"{self.endpoint}/{'datasets/' if DATA in repo_id else ''}{repo_id.removesuffix(DATA)}"
        if repo_id in self.repos:
            return JSONResponse({"url": url}, status_code=409)
        private = payload.get("visibility") == "private" or bool(payload.get("private"))
        self.repos[repo_id] = Repo(private, payload.get("sdk"))
        self.repos[repo_id].commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        return {"url": url, "name": repo_id.removesuffix(DATA)}

    def info(self, repo_id: str, revision: str) -> dict:
        repo = self.repo(repo_id, revision)
        sha, files = repo.tree(revision)
        card = _metadata(files.get("README.md", b""))
        siblings = [{"rfilename": path} for path in files]
        info = {
            "_id": "0",
            "id": repo_id,
            "modelId": repo_id,
            "sha": sha,
            "private": repo.private,
            "siblings": siblings,
        }
        return info | {key: card[key] for key in ("pipeline_tag", "library_name", "tags") if key in card}

    def upload_mode(self, path: str, files: dict[str, bytes]) -> dict:
        known = {"oid": _oid(path, files[path])} if path in files else {}
        return {
            "path": path,
            "uploadMode": "lfs" if path.endswith(LARGE) else "regular",
            "shouldIgnore": False,
        } | known

    def lfs_action(self, wanted: dict) -> dict:
        href = f"{self.endpoint}/lfs/{wanted['oid']}"
        upload = {"actions": {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}}
        return {"oid": wanted["oid"], "size": wanted["size"]} | ({} if wanted["oid"] in self.blobs else upload)

    def commit(self, repo_id: str, revision: str, body: bytes, proposed_by: str | None) -> dict:
        repo = self.repo(repo_id, revision)
        files, message = dict(repo.tree(revision)[1]), ""
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "header":
                    message = value["summary"]
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.blobs[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        number, url = 1 + len(repo.requests), f"{self.endpoint}/{repo_id}"
        sha = repo.commit(f"refs/pr/{number}" if proposed_by else revision, files, message)
        done = {"success": True, "commitOid": sha, "commitUrl": f"{url}/commit/{sha}"}
        if not proposed_by:
            return done
        request = {"num": number, "title": message, "author": {"name": proposed_by}, "status": "open"}
        request |= {"repo": {"name": repo_id, "type": "model"}, "isPullRequest": True}
        repo.requests.append(request | {"createdAt": "2026-01-01T00:00:00.000Z"})
        return done | {"pullRequestUrl": f"{url}/discussions/{number}"}

    def resolve(self, repo_id: str, revision: str, path: str, user: str) -> Response:
        sha, files = self.repo(repo_id, revision, user).tree(revision)
        if path not in files:
            raise Refusal(404, "EntryNotFound", f"no {path} at {revision}")
        headers = {"X-Repo-Commit": sha, "ETag": f'"{_oid(path, files[path])}"'}
        return Response(files[path], media_type="application/octet-stream", headers=headers)


def _among_models(parts: list[str]) -> list[str]:
    """The segments of a path to a data set as those of the model that stands for it here."""
    match parts:
        case ["api", "datasets", owner, name, *rest]:
            return ["api", "models", owner, name + DATA, *rest]
        case ["datasets", owner, name, *rest]:
            return [owner, name + DATA, *rest]
    return parts


def make_app(hub: Hub) -> FastAPI:
    """The web application around `hub`."""
    app = FastAPI()

    @app.api_route("/{_:path}", methods=["GET", "HEAD", "POST", "PUT"])
    async def everything(request: Request):
        # The raw path, because a revision such as refs%2Fpr%2F1 is one segment of it.
        parts = [unquote(part) for part in request.scope["raw_path"].decode().split("?")[0].strip("/").split("/")]
        hub.log.append(f"{request.method} {'/'.join(parts)}")
        parts = _among_models(parts)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        user, may_write = USERS.get(token, ("", False))
        try:
            hub.fail(hub.log[-1])
            if token and not user:
                raise Refusal(401, message="Invalid credentials in Authorization header")
            if request.method in ("GET", "HEAD") and len(parts) > 4 and parts[2] == "resolve":
                return hub.resolve(f"{parts[0]}/{parts[1]}", parts[3], "/".join(parts[4:]), user)
            body = await request.body()
            return hub.answer(request.method, parts, user, may_write, dict(request.query_params), body)
        except Refusal as refusal:
            error = {"error": refusal.headers["X-Error-Message"]}
            return JSONResponse(error, status_code=refusal.status, headers=refusal.headers)

    return app


@contextlib.contextmanager
def running_hub():
    """A `Hub` answering on a free port of 127.0.0.1 in a thread of this process, until the block ends."""
    hub = Hub()
    server = uvicorn.Server(uvicorn.Config(make_app(hub), host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    hub.endpoint = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield hub
    finally:
        server.should_exit = True
        thread.join(timeout=10)
