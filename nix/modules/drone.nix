# deploy-drone.service: the CI server.
import ../lib/app-module.nix {
  app = "drone";
  key = "deploy-drone";
  title = "Drone";
  host = "drone.ci.commoninternet.net";
  port = 80;
  path = "/healthz";
}
