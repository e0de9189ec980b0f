"""Back up and restore an installation."""

from headrace.backup.create import create_backup
from headrace.backup.manifest import BackupManifest
from headrace.backup.restore import restore_backup

__all__ = ["BackupManifest", "create_backup", "restore_backup"]
