"""A one-machine Druid cluster, each node a process of its own; it must not know what is loaded into it.

ZooKeeper comes out of Druid's jars, metadata lives in Derby inside the coordinator, deep storage is a folder, the
coordinator is the overlord too. Nodes are ended with SIGKILL: nothing is lost by it, while SIGTERM takes more than
half a minute. Heaps are as small as three weeks of test traffic allow: the cluster stays below 1 GB.
"""

from __future__ import annotations

import json
from pathlib import Path

import requests

from tests.real.servers.process import Process, free_ports, wait_until

NODES = ("zookeeper", "coordinator", "historical", "broker")
LOG4J = """<Configuration>
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p [%t] %c{1} - %m%n"/></Console></Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""
# What Druid 33 reaches for inside the JDK; without these a node ends at once.
OPENS = (
    "--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED",
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED",
)
# The first compiler only: a node that lives for minutes never earns the second one's work back.
JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Duser.timezone=UTC", "-Dfile.encoding=UTF-8")


class Druid:
    """The cluster in `folder`; started on a folder that was used before, it has the same data."""

    user = secret = ""

    def __init__(self, jars: Path, folder: Path) -> None:
        self.folder = folder.resolve()
        self.jars = jars.resolve()
        names = (*NODES, "derby", "task")
        self.ports = dict(zip(names, free_ports(len(names))))
        self.nodes = {name: self._node(name) for name in NODES}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['broker']}"

    @property
    def coordinator_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['coordinator']}"

    def start(self) -> None:
        self._write_config()
        for node in self.nodes.values():
            node.start()
        wait_until(self._ready, 120, "Druid", list(self.nodes.values()))

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()

    def resident_mb(self) -> float:
        """Memory of the four nodes together."""
        pages = [
            int(Path(f"/proc/{node.pid}/statm").read_text().split()[1]) for node in self.nodes.values() if node.running
        ]
        return sum(pages) * 4096 / 1e6

    def _ready(self) -> bool:
        try:
            broker = requests.get(f"{self.url}/druid/broker/v1/readiness", timeout=5)
            leader = requests.get(f"{self.coordinator_url}/druid/indexer/v1/isLeader", timeout=5)
        except requests.RequestException:
            return False
        return broker.ok and leader.ok

    def _node(self, name: str) -> Process:
        classpath = f"conf/_common:conf/{name}:{self.jars}/*"
        if name == "zookeeper":
            main = ["org.apache.zookeeper.server.ZooKeeperServerMain", str(self.ports[name]), f"{self.folder}/zk"]
            options = ["-Xmx64m", "-Dzookeeper.admin.enableServer=false"]
        else:
            main = ["org.apache.druid.cli.Main", "server", name]
            heap = {"coordinator": "192m", "historical": "256m", "broker": "160m"}[name]
            options = [f"-Xmx{heap}", "-XX:MaxDirectMemorySize=128m", "-XX:+ExitOnOutOfMemoryError", *OPENS]
            options += [f"-Djava.io.tmpdir={self.folder}/tmp"]
            options += ["-Djava.util.logging.manager=org.apache.logging.log4j.jul.LogManager"]
        command = ["java", *JVM, *options, "-cp", classpath, *main]
        return Process(command, self.folder / "logs" / f"{name}.log", cwd=self.folder)

    def _write_config(self) -> None:
        for each in ("tmp", "segments", "cache", "tasks", "logs", "zk"):
            (self.folder / each).mkdir(parents=True, exist_ok=True)
        for name, text in {"_common": self._common(), **self._properties()}.items():
            conf = self.folder / "conf" / name
            conf.mkdir(parents=True, exist_ok=True)
            file = "common.runtime.properties" if name == "_common" else "runtime.properties"
            (conf / file).write_text(text)
        (self.folder / "conf" / "_common" / "log4j2.xml").write_text(LOG4J)

    def _common(self) -> str:
        folder, derby = self.folder, self.ports["derby"]
        return f"""druid.extensions.loadList=[]
druid.host=127.0.0.1
druid.zk.service.host=127.0.0.1:{self.ports["zookeeper"]}
druid.metadata.storage.type=derby
druid.metadata.storage.connector.connectURI=jdbc:derby://127.0.0.1:{derby}/{folder}/metadata;create=true
druid.metadata.storage.connector.host=127.0.0.1
druid.metadata.storage.connector.port={derby}
druid.storage.type=local
druid.storage.storageDirectory={folder}/segments
druid.indexer.logs.type=file
druid.indexer.logs.directory={folder}/logs/tasks
druid.selectors.indexing.serviceName=druid/overlord
druid.selectors.coordinator.serviceName=druid/coordinator
druid.lookup.enableLookupSyncOnStartup=false
druid.startup.logging.logProperties=false
druid.emitter=noop
druid.processing.buffer.sizeBytes=5000000
druid.processing.numMergeBuffers=2
druid.processing.numThreads=2
druid.server.http.numThreads=12
"""

    def _properties(self) -> dict[str, str]:
        task_jvm = ["-Xmx384m", "-XX:MaxDirectMemorySize=128m", *JVM, *OPENS]
        own = {
            "coordinator": f"""druid.coordinator.asOverlord.enabled=true
druid.coordinator.asOverlord.overlordService=druid/overlord
druid.coordinator.startDelay=PT1S
druid.coordinator.period=PT2S
druid.manager.segments.pollDuration=PT2S
druid.manager.config.pollDuration=PT2S
druid.indexer.runner.type=local
druid.indexer.runner.ports=[{self.ports["task"]}]
druid.indexer.runner.javaOptsArray={json.dumps(task_jvm)}
druid.indexer.queue.startDelay=PT1S
druid.indexer.storage.type=metadata
druid.indexer.task.baseTaskDir={self.folder}/tasks
""",
            "historical": f"""druid.segmentCache.locations=[{{"path":"{self.folder}/cache","maxSize":"10g"}}]
druid.server.maxSize=10g
""",
            "broker": """druid.sql.enable=false
druid.broker.segmentMetadataCache.disableSegmentMetadataQueries=true
""",
        }
        return {
            name: f"druid.service=druid/{name}\ndruid.plaintextPort={self.ports[name]}\n{text}"
            for name, text in own.items()
        }
