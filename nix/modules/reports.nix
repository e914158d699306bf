# deploy-reports.service: the reports of test runs.
import ../lib/app-module.nix {
  app = "reports";
  key = "deploy-reports";
  title = "reports";
  host = "reports.ci.commoninternet.net";
  port = 80;
}
