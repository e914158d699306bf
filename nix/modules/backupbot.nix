# deploy-backupbot.service: backups of volumes. It has no web page; without a port to probe there is
# no gate, and the app is not deployed.
import ../lib/app-module.nix {
  app = "backupbot";
  key = "deploy-backupbot";
  title = "backup bot";
}
