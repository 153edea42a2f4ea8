"""Builds what deploy/Dockerfile describes in folders, starts it and asks it, where no container daemon runs.

The base image is a fresh Debian made by mmdebstrap, without the paths that Debian's slim images leave out. Each RUN is
run in it with chroot. The result is started as the image's user with a read-only root, in a network namespace of its
own, so that its own CMD and HEALTHCHECK are tested as they stand.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SLIM = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/groff/*")
MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"
FROM_HOST = ("/etc/resolv.conf", "/etc/ssl/certs", "/etc/pip.conf", "/etc/apt/apt.conf.d")
"""What a daemon would lend to a RUN so that it reaches the package registries as this machine does."""
LENT = re.compile("(?i)^(pip_|ssl_cert_|requests_ca_|.*_proxy$)")
IGNORED = shutil.ignore_patterns("__pycache__")
LIMIT_MB = 700
TOOLS = ("gcc", "cc", "clang", "ld", "make", "pip", "pip3")
ASK = """
import json, time, urllib.request
def ask(path, body=None):
    headers = {"content-type": "application/json", "authorization": "Bearer sk-image"}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request("http://127.0.0.1:4000" + path, data, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers, json.load(answer)
for question in ("Hi!", "Prove that there are infinitely many primes of the form 4k + 3."):
    headers, body = ask("/v1/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": question}]})
    print("chose", headers["x-embedllm-chosen"], "and", body["choices"][0]["message"]["content"][:24])
print("ready:", ask("/embedllm/readyz")[1]["ready"])
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction, such as RUN, and what follows it in one line."""

    instruction: str
    argument: str


@dataclass(slots=True)
class Stage:
    """A stage as far as it is built: its folder, and what later instructions and the container start with."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/bin"})
    folder: str = "/"
    user: str = "0:0"
    volumes: list[str] = field(default_factory=list)
    commands: dict[str, list[str]] = field(default_factory=dict)


def steps(dockerfile: str) -> Iterator[Step]:
    """Reads instructions, one a logical line, without comments."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            instruction, _, argument = line.strip().partition(" ")
            yield Step(instruction, argument.strip())


def bootstrap(image: str, root: Path) -> None:
    """Makes the base image: `debian:RELEASE-slim`."""
    found = re.fullmatch(r"debian:(\w+)-slim", image)
    if found is None:
        sys.exit(f"error: a base image debian:RELEASE-slim was expected, found {image}.")
    leave_out = [f"--dpkgopt=path-exclude={path}" for path in SLIM]
    options = ["--quiet", "--variant=minbase", "--include=usr-is-merged", f"--hook-dir={MERGED_USR}", *leave_out]
    subprocess.run(["mmdebstrap", *options, found[1], str(root)], check=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")  # a daemon lends this to every container


def inside(stage: Stage, command: str, *, lent: bool = False, closed: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs a shell command in a stage, in a mount and process namespace of its own.

    Args:
        stage: Where.
        command: For /bin/sh.
        lent: Whether it reaches package registries as this machine does.
        closed: Whether the root is read-only but for the volumes and /tmp, with no network but a loopback.
    """
    root = shlex.quote(str(stage.root))
    lines = ["set -e", f"mount --bind {root} {root}", f"cd {root}"]
    lines += [f"mount --rbind /{place} {place}" for place in ("dev", "proc")]
    if lent:
        lines += [f"[ ! -e {path} ] || [ ! -e .{path} ] || mount --bind {path} .{path}" for path in FROM_HOST]
    if closed:
        lines += ["ip link set lo up", "mount -o remount,bind,ro .", "mount -t tmpfs tmpfs tmp"]
        lines += [f"mount -t tmpfs -o mode=0700,uid=10001,gid=10001 tmpfs .{volume}" for volume in stage.volumes]
    environment = dict(stage.environment)
    if lent:
        environment |= {name: value for name, value in os.environ.items() if LENT.match(name)}
    settings = [f"{name}={value}" for name, value in environment.items()]
    script = f"cd {shlex.quote(stage.folder)} && {command}"
    entered = ["chroot", f"--userspec={stage.user}", ".", "env", "-i", *settings, "/bin/sh", "-c", script]
    lines.append("exec " + shlex.join(entered))
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *(["--net"] if closed else [])]
    return subprocess.run(
        [*namespaces, "sh", "-c", "\n".join(lines)], check=False, text=True, stdout=subprocess.PIPE if closed else None
    )


def copy(stage: Stage, argument: str, stages: Mapping[str, Stage]) -> None:
    """COPY, from the repository or from another stage."""
    *places, target = shlex.split(argument)
    source = ROOT
    if places[0].startswith("--from="):
        source = stages[places.pop(0).removeprefix("--from=")].root
    into = stage.root / (Path(stage.folder) / target).relative_to("/")
    for place in places:
        origin = source / place.lstrip("/")
        to = into / origin.name if target.endswith("/") else into
        to.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            shutil.copytree(origin, to, symlinks=True, ignore=None if source != ROOT else IGNORED)
        else:
            shutil.copy2(origin, to)


def apply(stage: Stage, step: Step, stages: Mapping[str, Stage]) -> None:
    """Carries one instruction out."""
    match step:
        case Step("RUN", command):
            if inside(stage, command, lent=True).returncode:
                sys.exit(f"error: this step failed: RUN {command}")
        case Step("COPY", argument):
            copy(stage, argument, stages)
        case Step("ENV", argument):
            stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(argument))
        case Step("WORKDIR", folder):
            stage.folder = folder
            (stage.root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case Step("USER", user):
            stage.user = user
        case Step("VOLUME", folder):
            stage.volumes.append(folder)
        case Step("ENTRYPOINT" | "CMD" | "HEALTHCHECK", argument):
            stage.commands[step.instruction] = json.loads(argument[argument.index("[") :])
        case Step("EXPOSE", _):
            pass
        case _:
            sys.exit(f"error: {step.instruction} is not known here; extend scripts/image.py.")


def build(work: Path) -> Stage:
    """Builds all stages; the last one is the image."""
    stages: dict[str, Stage] = {}
    stage = Stage(work)
    for step in steps(DOCKERFILE.read_text()):
        started = time.monotonic()
        if step.instruction == "FROM":
            image, _, name = step.argument.partition(" AS ")
            stage = Stage(work / f"stage{len(stages)}")
            if image in stages:
                subprocess.run(["cp", "-a", str(stages[image].root), str(stage.root)], check=True)
            else:
                bootstrap(image, stage.root)
            stages[name or "image"] = stage
        else:
            apply(stage, step, stages)
        print(f"{time.monotonic() - started:6.1f} s  {step.instruction} {step.argument[:80]}", flush=True)
    return stage


def size_mb(root: Path) -> float:
    """Bytes of all files, as an image counts them, in MB."""
    command = ["du", "-sxB1", "--apparent-size", str(root)]
    counted = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(counted.stdout.split()[0]) / 1e6


def check_content(root: Path) -> None:
    """No compiler and no pip in what is shipped, and each package at the version of constraints.txt."""
    tools = [name for name in TOOLS for folder in ("usr/bin", "opt/venv/bin") if (root / folder / name).exists()]
    pinned = {line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    found = distributions(path=[str(next(root.glob("opt/venv/lib/python3*/site-packages")))])
    loose = {f"{package.name}=={package.version}" for package in found if package.name != "embedllm-router"}
    loose -= {line for line in loose if normal(line) in map(normal, pinned)}
    if tools or loose:
        sys.exit(f"error: in the image, and should not be: {', '.join([*tools, *sorted(loose)])}.")


def normal(requirement: str) -> str:
    """A requirement with its name as the registry spells it."""
    return re.sub(r"[-_.](?=.*==)", "-", requirement).lower()


def try_out(stage: Stage) -> None:
    """Starts simulated LLMs and the image's own command, waits for its HEALTHCHECK, asks it, and has it end."""
    start = shlex.join([*stage.commands["ENTRYPOINT"], *stage.commands["CMD"]])
    healthy = shlex.join(stage.commands["HEALTHCHECK"])
    script = f"""
        id -u; ! touch /usr/written 2>/dev/null || exit 9
        embedllm-router upstream --port 8900 >/tmp/upstream.log 2>&1 & upstream=$!
        export UPSTREAM_API_BASE=http://127.0.0.1:8900/v1 UPSTREAM_API_KEY=x LITELLM_MASTER_KEY=sk-image
        {start} >/tmp/serve.log 2>&1 & serve=$!
        began=$(date +%s%N)
        until {healthy} 2>/dev/null; do kill -0 $serve || {{ tail -20 /tmp/serve.log; exit 8; }}; sleep 0.2; done
        echo "healthy after $(( ($(date +%s%N) - began) / 1000000 )) ms"
        python3 -c {shlex.quote(ASK)}
        kill -TERM $serve; wait $serve; echo "ended with $?"; kill $upstream
        cat {stage.volumes[0]}/records/*.jsonl | wc -l; ls {stage.volumes[0]}
    """
    ran = inside(stage, script, closed=True)
    print(ran.stdout)
    if ran.returncode or "ended with 0" not in ran.stdout:
        sys.exit("error: the image does not start, answer and end as it should.")


def main(arguments: Sequence[str]) -> None:
    """Builds, measures and tries the image; `--keep FOLDER` leaves the stages there."""
    kept = Path(arguments[1]) if len(arguments) == 2 and arguments[0] == "--keep" else None  # noqa: PLR2004 - option, value
    work = kept or Path(tempfile.mkdtemp(prefix="image-"))
    work.mkdir(exist_ok=True)
    started = time.monotonic()
    try:
        stage = build(work)
        size, took = size_mb(stage.root), time.monotonic() - started
        check_content(stage.root)
        try_out(stage)
    finally:
        if kept is None:
            shutil.rmtree(work)
    print(json.dumps({"size_mb": round(size), "build_s": round(took)}))
    if size > LIMIT_MB:
        sys.exit(f"error: the image has {size:.0f} MB, more than {LIMIT_MB}.")


if __name__ == "__main__":
    main(sys.argv[1:])
